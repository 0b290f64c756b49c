"""How OpenFlamingo and RoboFlamingo name their tensors, and what the shapes of these say.

Versions 1 and 2 of OpenFlamingo are read, as released or from training, and what RoboFlamingo makes of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

from rf_agent.config import LanguageConfig, ResamplerConfig, VisionConfig
from rf_agent.weights.clip import vision_source
from rf_agent.weights.files import ConversionError, Tensors
from rf_agent.weights.language import LANGUAGE, LanguageModel
from rf_agent.weights.report import Source

RESAMPLER, CROSS_ATTENTION = "vlm.perceiver.", "vlm.gated_cross_attn_layers."
OTHER_RESAMPLERS = "vlm.other_perceivers."
HEAD_DIM = 64
"""Width of an attention head of resampler and cross-attention, which no tensor shows; all published ones have this."""

HEAD = re.compile(r"(lang_encoder\.)?(lm_head|action_head)\.(?=.+\.)")
"""How names of RoboFlamingo's policy head begin; that of the vocabulary projection has no second dot."""

OLD_BUFFER = re.compile(r"\b(attention|self_attn|attn)\.(bias|masked_bias|rotary_emb\.inv_freq)$")
"""Causal masks and rotary frequencies, which older versions of transformers stored beside the weights."""

LAYER = re.compile(
    r"lang_encoder\.(?:[\w.]+?\.(?P<layer>\d+)\.decoder_layer|old_decoder_blocks\.(?P<old>\d+))\.(?P<rest>.+)"
)
"""Names of a decoder layer; RoboFlamingo's files have the second."""

CROSS = re.compile(
    r"lang_encoder\.(?:[\w.]+?\.(?P<layer>\d+)\.gated_cross_attn_layer|gated_cross_attn_layers\.(?P<own>\d+))"
    r"\.(?P<rest>.+)"
)
"""Names of the cross-attention before a decoder layer: version 2's, version 1's, or both in one file."""


class Backbone(NamedTuple):
    """The pre-trained models under a Flamingo."""

    vision: VisionConfig
    vision_source: Source
    language: LanguageModel


def translated(tensors: Tensors, path: str, backbone: Backbone) -> tuple[Source, Source]:
    """The tensors of a checkpoint: those of the Flamingo under our names; those of the policy head under their own.

    Raises:
        ConversionError: a tensor of another language model, or two names of one tensor with different contents.
    """
    source, head, vision = Source(path), Source(path), {}
    for original, tensor in tensors.items():
        if found := HEAD.match(original):
            head.add(original[found.end() :], tensor, original)
        elif OLD_BUFFER.search(original):
            source.ignored[original] = "a buffer of older versions"
        elif original.startswith("vision_encoder."):
            vision[original] = tensor
        elif name := _our_name(original, backbone.language, path):
            source.add(name, tensor, original)
        else:
            source.ignored[original] = "no part of the policy"
    if vision:
        source.join(vision_source(vision, path))
    return source, head


def _our_name(original: str, language: LanguageModel, path: str) -> str | None:
    """Name in a policy of a checkpoint's tensor; None if a policy has no such thing.

    Raises:
        ConversionError: it is of another language model.
    """
    for theirs, ours in (("perceiver.", RESAMPLER), ("perceiver_gripper.", f"{OTHER_RESAMPLERS}0.")):
        if original.startswith(theirs):
            return ours + original[len(theirs) :]
    if not original.startswith("lang_encoder."):
        return None
    if found := CROSS.fullmatch(original):
        return f"{CROSS_ATTENTION}{found['layer'] or found['own']}.{found['rest']}"
    if found := LAYER.fullmatch(original):
        name = f"{language.layers_name}.{found['layer'] or found['old']}.{found['rest']}"
    else:
        name = original.removeprefix("lang_encoder.")
    if name == "embed_out.weight" and name not in language.names:
        name = "lm_head.weight"  # the output layer of GPT-NeoX, as newer versions of transformers call it
    if name not in language.names:
        raise ConversionError(
            f"{path} holds {original}, which the language model of {language.source.path} does not have: it was "
            "trained on another one; give that one's folder."
        )
    return LANGUAGE + name


def shape(sources: list[Source], backbone: Backbone) -> tuple[LanguageConfig, ResamplerConfig]:
    """What the tensors of checkpoints (the base first) say about cross-attention and resampler.

    Raises:
        ConversionError: they have none, or they fit another vision tower or language model.
    """
    found = {name: (source, tensor) for source in sources for name, tensor in source.tensors.items()}

    def tensor(name: str, width: int | None = None, whose: str = "") -> Tensor:
        if name not in found:
            raise ConversionError(
                f"there is no {name.removeprefix('vlm.')} in {' or '.join(source.path for source in sources)}: it was "
                "frozen when that was saved; give the OpenFlamingo checkpoint that the training began with, too."
            )
        source, values = found[name]
        if values.dim() != 2:
            raise ConversionError(
                f"{source.names[name]} of {source.path} is {tuple(values.shape)}, but a matrix is expected."
            )
        if width is not None and values.shape[1] != width:
            raise ConversionError(
                f"{source.names[name]} of {source.path} is {tuple(values.shape)}, but {(len(values), width)} is "
                f"expected for {whose}; they do not belong together."
            )
        return values

    vision, language = backbone.vision_source.path, backbone.language
    latents = tensor(f"{RESAMPLER}latents", backbone.vision.model["width"], vision)
    tensor(f"{LANGUAGE}{language.embedding}")  # with the special tokens, which the language model's own has not
    before = sorted({int(name.split(".")[2]) for name in found if name.startswith(CROSS_ATTENTION)}) or [0]
    cross = f"{CROSS_ATTENTION}{before[0]}."
    queries = tensor(f"{cross}attn.to_q.weight", language.width, language.source.path)
    every = before[0] + 1
    if before != list(range(before[0], language.layers, every)):
        raise ConversionError(
            f"{sources[-1].path} has cross-attention before the layers {before}, but the language model of "
            f"{language.source.path} has {language.layers} layers: it was trained on another one; give its folder."
        )
    layers = [int(name.split(".")[3]) for name in found if name.startswith(f"{RESAMPLER}layers.")]
    return LanguageConfig(
        cross_attention_every=every,
        heads=len(queries) // HEAD_DIM,
        head_dim=HEAD_DIM,
        ff_mult=len(tensor(f"{cross}ff.1.weight")) // language.width,
    ), ResamplerConfig(
        layers=1 + max(layers, default=0),
        latents=len(latents),
        heads=len(tensor(f"{RESAMPLER}layers.0.0.to_q.weight")) // HEAD_DIM,
        head_dim=HEAD_DIM,
        ff_mult=len(tensor(f"{RESAMPLER}layers.0.1.1.weight")) // latents.shape[1],
    )
