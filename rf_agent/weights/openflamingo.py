"""OpenFlamingo: a published checkpoint, on its language model and CLIP vision tower, to a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from rf_agent.calvin_robot import CALVIN_VIEWS, calvin
from rf_agent.config import HeadConfig, ImageConfig, LanguageConfig, ResamplerConfig, RoboFlamingoConfig, VisionConfig
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import CLIP_MEAN, CLIP_STD
from rf_agent.weights.clip import read_vision
from rf_agent.weights.files import expect_family, read_tensors
from rf_agent.weights.language import read_language_model
from rf_agent.weights.layout import CROSS_ATTENTION, OTHER_RESAMPLERS, RESAMPLER, Backbone, shape, translated
from rf_agent.weights.report import Report, Source, fill

MAX_TOKENS = 32
"""Longest prompt that RoboFlamingo reads."""


def from_openflamingo(
    checkpoint: str | Path | None,
    language_model: str | Path,
    vision: str | Path,
    *,
    head: HeadConfig | None = None,
    fusion: str = "post",
    views: tuple[str, ...] = CALVIN_VIEWS,
    lm_feature: str | None = None,
    cross_attention_every: int = 1,
    language_weights: str | Path | None = None,
    vision_head_width: int | None = None,
    quick_gelu: bool | None = None,
    seed: int = 0,
) -> tuple[RoboFlamingoPolicy, Report]:
    """A policy on a published OpenFlamingo: all of it is pre-trained but the head.

    Args:
        checkpoint: OpenFlamingo's checkpoint.pt. With None, resampler and cross-attention are random too (the
            paper's "no VL pre-train").
        language_model: folder of the language model under it.
        vision: its CLIP vision tower (OpenAI's ViT-L/14 for all that were published).
        head: the policy head, which is random; the paper's LSTM by default.
        fusion, views: as in `rf_agent.config.RoboFlamingoConfig`.
        lm_feature: as in `rf_agent.config.LanguageConfig`; by default what the reference implementation reads from
            this language model.
        cross_attention_every: only without a checkpoint, which says it otherwise.
        language_weights: see `rf_agent.weights.language.read_language_model`.
        vision_head_width, quick_gelu: see `rf_agent.weights.clip.read_vision`.
        seed: of what is random; the global random state is left as it was.

    Returns:
        The policy, on the CPU in float32, and what became of the tensors.

    Raises:
        ConversionError: a file of another kind, files that do not belong together, or tensors that are missing or
            mis-shaped; the message names them.
    """
    tensors = None if checkpoint is None else read_tensors(checkpoint)
    if tensors is not None:
        remedy = "use `rf-agent convert roboflamingo` for what RoboFlamingo trained"
        expect_family(tensors, str(checkpoint), "an OpenFlamingo checkpoint", remedy)
    backbone = read_backbone(language_model, vision, language_weights, vision_head_width, quick_gelu)
    language, resampler = LanguageConfig(cross_attention_every=cross_attention_every), ResamplerConfig()
    sources: list[Source] = []
    random: tuple[str, ...] = ("head.",)
    if tensors is None:
        random += RESAMPLER, OTHER_RESAMPLERS, CROSS_ATTENTION
    else:
        source, _ = translated(tensors, str(checkpoint), backbone)
        if fusion == "separate":
            share_resampler(source, len(views))
        sources.append(source)
        language, resampler = shape(sources, backbone)
    config = RoboFlamingoConfig(
        resampler=resampler, language=language, head=head or HeadConfig(), fusion=fusion, **calvin() | {"views": views}
    )
    return assembled(config, backbone, sources, random, lm_feature, seed)


def share_resampler(source: Source, views: int) -> None:
    """Let the resampler of every further view begin as a copy of the one there is."""
    for name in [name for name in source.tensors if name.startswith(RESAMPLER)]:
        for view in range(views - 1):
            copy = f"{OTHER_RESAMPLERS}{view}.{name.removeprefix(RESAMPLER)}"
            source.tensors[copy], source.names[copy] = source.tensors[name], source.names[name]


def read_backbone(
    language_model: str | Path,
    vision: str | Path,
    language_weights: str | Path | None,
    vision_head_width: int | None,
    quick_gelu: bool | None,
) -> Backbone:
    """Language model and vision tower from their files."""
    model, source = read_vision(vision, vision_head_width, quick_gelu)
    language = read_language_model(language_model, language_weights)
    return Backbone(VisionConfig(model=model, position_embedding=False), source, language)


def assembled(
    config: RoboFlamingoConfig,
    backbone: Backbone,
    sources: list[Source],
    random: tuple[str, ...] = (),
    lm_feature: str | None = None,
    seed: int = 0,
) -> tuple[RoboFlamingoPolicy, Report]:
    """A policy with the tensors of the backbone, and then of `sources`.

    Args:
        config: image, vision and language model are filled in here.
        random: beginnings of the names of tensors that no file needs to have.
    """
    model, tokenizer = backbone.language.model, backbone.language.tokenizer
    if lm_feature is None:
        lm_feature = "last_block_input" if model["model_type"] == "mosaic_gpt" else "final_norm"
    size = backbone.vision.model["image_size"]
    config = replace(
        config,
        image=ImageConfig(size=size, mean=CLIP_MEAN, std=CLIP_STD, resample="bicubic"),
        vision=backbone.vision,
        language=replace(config.language, model=model, lm_feature=lm_feature, max_tokens=MAX_TOKENS),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = RoboFlamingoPolicy(config, tokenizer)
    report = fill(policy, [backbone.vision_source, backbone.language.source, *sources], random)
    report.notes = [*backbone.language.notes, f"the head reads {lm_feature} of the language model"]
    return policy.eval(), report
