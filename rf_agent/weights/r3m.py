"""R3M (arXiv:2203.12601): its published ResNets to a policy under our head."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from rf_agent.baselines.config import R3MConfig
from rf_agent.baselines.presets import IMAGENET_MEAN, IMAGENET_STD
from rf_agent.baselines.presets import r3m as published
from rf_agent.baselines.representation import R3MPolicy
from rf_agent.calvin_robot import CALVIN_VIEWS
from rf_agent.policy_config import HeadConfig, ImageConfig, TextConfig, VisionConfig
from rf_agent.tokenizer import build_tokenizer
from rf_agent.weights.files import ConversionError, Tensors, expect_family, read_tensors
from rf_agent.weights.report import Report, Source
from rf_agent.weights.sentence import SENTENCE, filled, matrices, numbered, read_sentence_encoder

TOWER = "vision_tower.model."
BOTTLENECK_REDUCTION = 4
"""How much narrower a bottleneck is inside than its output, in all of torchvision's ResNets."""

LEFT_OUT = {
    "lang_enc.": "R3M's language model, of its reward (give --language-model instead)",
    "lang_rew.": "R3M's reward, which does not act",
    "convnet.fc.": "a classifier, which R3M has none of",
}
"""Beginnings of names and why they are not used."""


def from_r3m(
    checkpoint: str | Path,
    language_model: str | Path | None = None,
    *,
    head: HeadConfig | None = None,
    views: tuple[str, ...] = CALVIN_VIEWS,
    image_size: int = 224,
    seed: int = 0,
) -> tuple[R3MPolicy, Report]:
    """A policy on R3M's features, whose head is yet to be trained.

    Args:
        checkpoint: R3M's model.pt: `{"r3m": tensors}`, a ResNet-18, -34 or -50 in torchvision's names under
            `module.convnet.`.
        language_model: folder of the sentence encoder, such as distilbert-base-uncased. Without, it is random in
            DistilBERT's size and stays so, which still tells sentences apart, but not by what they mean.
        head: the policy head, which is random; the paper's LSTM by default.
        views: camera images of the observation, in the order in which the policy sees them.
        image_size: side in pixels; R3M's is 224.
        seed: of what is random; the global random state is left as it was.

    Returns:
        The policy, on the CPU in float32, and what became of the tensors.

    Raises:
        ConversionError: a file of another kind, or tensors that are missing, left over or mis-shaped; they are named.
    """
    tensors = read_tensors(checkpoint)
    expect_family(tensors, checkpoint, "an R3M checkpoint", "give R3M's model.pt")
    for name in [name for name in tensors if name.endswith(".running_mean")]:  # counters that nothing reads, if lacking
        tensors.setdefault(name.replace(".running_mean", ".num_batches_tracked"), torch.tensor(0))
    sources = [resnet_source(tensors, str(checkpoint))]
    random: tuple[str, ...] = ("head.",)
    if language_model is None:
        values = dict(published().language.model)
        tokenizer: Any = build_tokenizer((), values["vocab_size"])
        values["pad_token_id"] = tokenizer.pad_token_id
        random += (SENTENCE,)
    else:
        values, tokenizer, source = read_sentence_encoder(language_model)
        sources.append(source)
    config = R3MConfig(
        **vars(published())
        | {
            "image": ImageConfig(size=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            "vision": VisionConfig(model=resnet_model(tensors, checkpoint), position_embedding=False, norm=False),
            "language": TextConfig(model=values),
            "head": head or HeadConfig(),
            "views": views,
        }
    )
    policy, report = filled(R3MPolicy, config, tokenizer, sources, random, seed)
    assert isinstance(policy, R3MPolicy)
    if language_model is None:
        report.notes.append(
            "the sentence encoder is random and stays frozen: give --language-model to tell instructions apart by "
            "what they mean"
        )
    return policy, report


def resnet_model(tensors: Tensors, path: str | Path) -> dict[str, Any]:
    """`vision.model` of a policy's configuration, as the tensors of a torchvision ResNet show."""
    names = list(tensors)
    stages = [numbered(names, rf"convnet\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    depths = stages[: stages.index(0)] if 0 in stages else stages
    if not depths:
        raise ConversionError(f"{path} has no convnet.layer1.*; the ResNet is cut short or of another kind.")
    bottleneck = "convnet.layer1.0.conv3.weight" in tensors
    last = "conv3" if bottleneck else "conv2"
    wanted = {"convnet.conv1.weight": 4}
    wanted |= {f"convnet.layer{stage}.0.{last}.weight": 4 for stage in range(1, 1 + len(depths))}
    embedding, *outputs = (shape[0] for shape in matrices(tensors, path, wanted))
    if bottleneck and outputs[0] // BOTTLENECK_REDUCTION < 1:
        raise ConversionError(
            f"convnet.layer1.0.conv3.weight of {path} has {outputs[0]} outputs, but a bottleneck has "
            f"{BOTTLENECK_REDUCTION} or more; the file is damaged."
        )
    return {
        "model_type": "resnet",
        "embedding_size": embedding,
        "hidden_sizes": outputs,
        "depths": depths,
        "layer_type": "bottleneck" if bottleneck else "basic",
    }


def resnet_source(tensors: Tensors, path: str) -> Source:
    """R3M's tensors under their names in a policy, whose ResNet is that of `transformers`."""
    source = Source(path)
    for original, tensor in tensors.items():
        reason = next((why for beginning, why in LEFT_OUT.items() if original.startswith(beginning)), None)
        if reason is not None:
            source.ignored[original] = reason
        else:
            source.add(TOWER + _our_name(original.removeprefix("convnet.")), tensor, original)
    return source


def _our_name(name: str) -> str:
    """A tensor of torchvision's ResNet by the name that `transformers` has for it."""
    if stem := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"embedder.embedder.{_part(stem[1])}.{stem[2]}"
    if inner := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, block, kind, number, rest = inner.groups()
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(number) - 1}.{_part(kind)}.{rest}"
    if short := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", name):
        stage, block, number, rest = short.groups()
        part = _part("conv" if number == "0" else "bn")
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{part}.{rest}"
    return name  # the model will have no place for it, and say so


def _part(kind: str) -> str:
    return "convolution" if kind == "conv" else "normalization"
