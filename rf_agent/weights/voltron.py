"""Voltron's V-Cond (arXiv:2302.12766): its published weights to a policy under our head."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from rf_agent.baselines.config import VoltronConfig, VoltronEncoderConfig
from rf_agent.baselines.presets import DISTILBERT, IMAGENET_MEAN, IMAGENET_STD
from rf_agent.baselines.presets import voltron as published
from rf_agent.baselines.voltron import VoltronPolicy
from rf_agent.calvin_robot import CALVIN_VIEWS
from rf_agent.policy_config import HeadConfig, ImageConfig, TextConfig, VisionConfig
from rf_agent.weights.files import ConversionError, Tensors, expect_family, read_tensors
from rf_agent.weights.report import Report, Source
from rf_agent.weights.sentence import SENTENCE, filled, matrices, numbered, read_tokenizer

TOWER, TRANSFORMER = "vision_tower.model.", "encoder.transformer."
WORDS = "embeddings.word_embeddings.weight"

NAMES = {
    "patch2embed.proj.weight": TOWER + "proj.weight",
    "patch2embed.proj.bias": TOWER + "proj.bias",
    "encoder_pe": TOWER + "position",
    "lang2encoder.weight": TRANSFORMER + "words.weight",
    "lang2encoder.bias": TRANSFORMER + "words.bias",
    "img_token": TRANSFORMER + "image_mark",
    "lang_token": TRANSFORMER + "word_mark",
    "encoder_norm.g": TRANSFORMER + "norm.scale",
}
"""Voltron's names and ours, but for the blocks and the language model."""

BLOCK_NAMES = {
    "pre_norm_attn.g": "norm_attention.scale",
    "attn.qkv.weight": "attention.qkv.weight",
    "attn.qkv.bias": "attention.qkv.bias",
    "attn.proj.weight": "attention.out.weight",
    "attn.proj.bias": "attention.out.bias",
    "layer_scale_attn.gamma": "scale_attention",
    "pre_norm_mlp.g": "norm_mlp.scale",
    "mlp.0.project.weight": "mlp.widen.weight",
    "mlp.0.project.bias": "mlp.widen.bias",
    "mlp.2.weight": "mlp.narrow.weight",
    "mlp.2.bias": "mlp.narrow.bias",
    "layer_scale_mlp.gamma": "scale_mlp",
}
"""The same within a block."""

DECODER = ("encoder2decoder.", "mask_token", "decoder_")


def from_voltron(
    checkpoint: str | Path,
    tokenizer: str | Path,
    *,
    head: HeadConfig | None = None,
    views: tuple[str, ...] = CALVIN_VIEWS,
    head_width: int = 64,
    language_head_width: int = 64,
    seed: int = 0,
) -> tuple[VoltronPolicy, Report]:
    """A policy on V-Cond's representation, whose pooling and head are yet to be trained.

    Args:
        checkpoint: Voltron's v-cond.pt or v-cond-base.pt: a pair of tensors and the optimiser's state. It holds the
            language model (DistilBERT), too.
        tokenizer: folder of that model's tokenizer, distilbert-base-uncased, which the checkpoint does not hold.
        head: the policy head, which is random; the paper's LSTM by default.
        views: camera images of the observation, in the order in which the policy sees them.
        head_width, language_head_width: width of an attention head of the transformer and of the language model, which
            no tensor shows; 64 in all that were published.
        seed: of what is random; the global random state is left as it was.

    Returns:
        The policy, on the CPU in float32, and what became of the tensors.

    Raises:
        ConversionError: a file of another kind (Voltron's V-Dual and V-Gen are others), or tensors that are missing,
            left over or mis-shaped; they are named.
    """
    tensors = read_tensors(checkpoint)
    expect_family(tensors, checkpoint, "a Voltron checkpoint", "give Voltron's v-cond.pt")
    if "cls_token" in tensors:
        raise ConversionError(f"{checkpoint} has a class token (cls_token), which no published V-Cond has.")
    image_size, vision, encoder = _sizes(tensors, checkpoint, head_width)
    language = _language_model(tensors, checkpoint, language_head_width)
    source = voltron_source(tensors, str(checkpoint))
    words = read_tokenizer(tokenizer, source, WORDS)
    language["vocab_size"] = len(words)
    config = VoltronConfig(
        **vars(published())
        | {
            "image": ImageConfig(size=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            "vision": VisionConfig(model=vision, position_embedding=False),
            "language": TextConfig(model=language, max_tokens=published().language.max_tokens),
            "encoder": encoder,
            "head": head or HeadConfig(),
            "views": views,
        }
    )
    policy, report = filled(VoltronPolicy, config, words, [source], ("head.", "encoder.pool."), seed)
    assert isinstance(policy, VoltronPolicy)
    return policy, report


def voltron_source(tensors: Tensors, path: str) -> Source:
    """V-Cond's tensors under their names in a policy."""
    source = Source(path)
    for original, tensor in tensors.items():
        block = re.fullmatch(r"encoder_blocks\.(\d+)\.(.+)", original)
        if original.startswith(DECODER):
            source.ignored[original] = "of the reconstruction, which does not act"
        elif original.endswith("embeddings.position_ids"):
            source.ignored[original] = "a buffer of older versions"
        elif original.startswith("lm."):
            source.add(SENTENCE + original.removeprefix("lm."), tensor, original)
        elif block and block[2] in BLOCK_NAMES:
            source.add(f"{TRANSFORMER}blocks.{block[1]}.{BLOCK_NAMES[block[2]]}", tensor, original)
        else:  # (1, n, w) and (1, 1, w) lose their first axes; of a name that is not known, the policy will say so
            plain = tensor.flatten(0, -2) if original == "encoder_pe" else tensor
            plain = tensor.flatten() if original in ("img_token", "lang_token") else plain
            source.add(NAMES.get(original, original), plain, original)
    return source


def _sizes(tensors: Tensors, path: str | Path, head_width: int) -> tuple[int, dict[str, Any], VoltronEncoderConfig]:
    """Image size, `vision.model` and the transformer, as the tensors show."""
    layers = numbered(tensors, r"encoder_blocks\.(\d+)\.")
    patch, places, narrow = matrices(
        tensors, path, {"patch2embed.proj.weight": 4, "encoder_pe": 3, "encoder_blocks.0.mlp.2.weight": 2}
    )
    width, _, size, _ = patch
    side = math.isqrt(places[1])
    if side**2 != places[1]:
        raise ConversionError(f"encoder_pe of {path} is {tuple(places)}, but those of a square image are expected.")
    if head_width < 1 or width % (2 * head_width):
        raise ConversionError(
            f"patch2embed.proj.weight of {path} is {tuple(patch)}, but heads of {head_width} (half as wide in the "
            f"pooling) do not fit a width of {width}; give the transformer's with --head-width."
        )
    vision = {"model_type": "patch_embedding", "image_size": side * size, "patch_size": size, "width": width}
    encoder = VoltronEncoderConfig(width, layers, width // head_width, narrow[1], pad_text=True)
    return side * size, vision, encoder


def _language_model(tensors: Tensors, path: str | Path, head_width: int) -> dict[str, Any]:
    """`language.model`: a DistilBERT, as the tensors show; its vocabulary is yet to be set."""
    words, places, widen = matrices(
        tensors,
        path,
        {
            f"lm.{WORDS}": 2,
            "lm.embeddings.position_embeddings.weight": 2,
            "lm.transformer.layer.0.ffn.lin1.weight": 2,
        },
    )
    if head_width < 1 or words[1] % head_width:
        raise ConversionError(
            f"lm.{WORDS} of {path} is {tuple(words)}, but heads of {head_width} do not divide a width of {words[1]}; "
            "give the language model's with --language-head-width."
        )
    return DISTILBERT | {
        "dim": words[1],
        "n_layers": numbered(tensors, r"lm\.transformer\.layer\.(\d+)\."),
        "n_heads": words[1] // head_width,
        "hidden_dim": widen[0],
        "max_position_embeddings": places[0],
    }
