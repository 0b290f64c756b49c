"""OpenFlamingo as a live model of the package `open_flamingo` to a policy."""

from __future__ import annotations

import copy
from typing import Any

from rf_agent.calvin_robot import CALVIN_VIEWS, calvin
from rf_agent.config import HeadConfig, RoboFlamingoConfig, VisionConfig
from rf_agent.nn.language import OWN_MODELS
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.weights.clip import vision_model, vision_source
from rf_agent.weights.files import ConversionError
from rf_agent.weights.language import (
    NOT_OF_THE_MODEL,
    built_without_memory,
    described,
    mosaic_gpt_values,
    with_vocabulary,
)
from rf_agent.weights.layout import Backbone, shape, translated
from rf_agent.weights.openflamingo import assembled, share_resampler
from rf_agent.weights.report import Report, Source

MODEL = "the open_flamingo model"


def from_live_openflamingo(
    model: Any,
    tokenizer: Any,
    *,
    head: HeadConfig | None = None,
    fusion: str = "post",
    views: tuple[str, ...] = CALVIN_VIEWS,
    lm_feature: str | None = None,
    vision_head_width: int | None = None,
    quick_gelu: bool | None = None,
    seed: int = 0,
) -> tuple[RoboFlamingoPolicy, Report]:
    """A policy with copies of a live model's weights.

    Its vision tokens are those before the tower's final norm, with which all published weights were trained;
    open_clip hands them out after that norm from version 2.23 on.

    Args:
        model, tokenizer: as `open_flamingo.create_model_and_transforms` (2.0.1) returns them.
        head, fusion, views, lm_feature, seed: as of `rf_agent.weights.openflamingo.from_openflamingo`.
        vision_head_width, quick_gelu: read off the vision tower if not given.

    Returns:
        The policy, on the CPU in float32, and what became of the tensors.

    Raises:
        ConversionError: it is no such model, or of parts that cannot be rebuilt.
    """
    if not all(hasattr(model, part) for part in ("vision_encoder", "perceiver", "lang_encoder")):
        raise ConversionError(
            f"a {type(model).__name__} was given, but a Flamingo of the package open_flamingo is expected (with "
            "vision_encoder, perceiver and lang_encoder)."
        )
    tensors = model.state_dict()
    tower = {name: tensor for name, tensor in tensors.items() if name.startswith("vision_encoder.")}
    vision = vision_source(tower, MODEL)
    if vision_head_width is None:
        vision_head_width = _head_width(model.vision_encoder)
    if quick_gelu is None:
        quick_gelu = any(type(part).__name__ == "QuickGELU" for part in model.vision_encoder.modules())
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = "right"
    config = model.lang_encoder.config.to_diff_dict()
    values = {key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL}
    rotated = (values.get("rope_parameters") or {}).get("partial_rotary_factor")
    if values["model_type"] == "gpt_neox" and rotated is not None:
        values["rotary_pct"] = rotated  # transformers 5.4 reads this one alone, and writes the other
    values = with_vocabulary(values, len(model.lang_encoder.get_input_embeddings().weight))
    if values["model_type"] in OWN_MODELS:
        values = mosaic_gpt_values(values, MODEL)
    backbone = Backbone(
        VisionConfig(model=vision_model(vision, vision_head_width, quick_gelu), position_embedding=False),
        vision,
        described(values, built_without_memory(values, MODEL), tokenizer, Source(MODEL), []),
    )
    source, _ = translated({name: t for name, t in tensors.items() if name not in tower}, MODEL, backbone)
    if fusion == "separate":
        share_resampler(source, len(views))
    language, resampler = shape([source], backbone)
    policy = RoboFlamingoConfig(
        resampler=resampler, language=language, head=head or HeadConfig(), fusion=fusion, **calvin() | {"views": views}
    )
    return assembled(policy, backbone, [source], ("head.",), lm_feature, seed)


def _head_width(tower: Any) -> int:
    """Width of the attention heads of open_clip's vision tower; that of all published ones where it does not say."""
    attention = next((part for part in tower.modules() if hasattr(part, "num_heads")), None)
    return 64 if attention is None else attention.embed_dim // attention.num_heads
