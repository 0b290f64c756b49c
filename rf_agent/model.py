"""The RoboFlamingo network: camera images, an instruction and a history in, actions (or a loss) out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rf_agent.config import RoboFlamingoConfig
from rf_agent.nn.flamingo import Flamingo, fsdp_blocks
from rf_agent.nn.fusion import arrange
from rf_agent.nn.heads import build_head
from rf_agent.nn.language import decoder_layers
from rf_agent.policy_model import PolicyModel, TextInputs

BETWEEN = ("perceiver.", "other_perceivers.", "gated_cross_attn_layers.")
"""Tensors of a vision-language model that belong neither to its vision tower nor to its language model."""


class RoboFlamingoModel(PolicyModel):
    """A vision-language model with a policy head (RoboFlamingo, arXiv:2311.01378, Section 4).

    Shapes: those of `PolicyModel`, G groups of l latents, P passes of the text, d width of the language model.

    Args:
        config: the whole configuration.
        image_token: id of `<image>`.

    Raises:
        ConfigError: something is missing in the configuration, such as the size of an action.
    """

    config: RoboFlamingoConfig
    parts = {  # noqa: RUF012
        "vlm.vision_encoder.": "vision",
        "vlm.perceiver.": "resampler",
        "vlm.other_perceivers.": "resampler",
        "vlm.gated_cross_attn_layers.": "cross-attention",
        "vlm.lang_encoder.": "language",
        "head.": "head",
    }

    def __init__(self, config: RoboFlamingoConfig, image_token: int) -> None:
        super().__init__(config)
        self.vlm = Flamingo(config, image_token)
        self.head = build_head(
            self.vlm.feature_dim, config.head, config.action, config.state, self.vlm.vision_encoder.dim
        )

    @property
    def vision_encoder(self) -> Any:
        return self.vlm.vision_encoder

    @property
    def language_model(self) -> Any:
        return self.vlm.lang_encoder

    @property
    def width(self) -> int:
        return self.vlm.dim

    def pretrained_parameters(self, vl_pretrained: bool = True) -> Iterable[nn.Parameter]:
        return (
            parameter
            for name, parameter in self.vlm.named_parameters()
            if vl_pretrained or not name.startswith(BETWEEN)
        )

    @property
    def cross_attention_blocks(self) -> list[str]:
        return list(self.vlm.gated_cross_attn_layers)

    @property
    def unread_blocks(self) -> list[str]:
        last = str(len(decoder_layers(self.vlm.lang_encoder)) - 1)
        return [name for name in self.cross_attention_blocks if self.vlm.exits_early and name == last]

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        vlm = self.vlm
        return {
            "vision tower": [vlm.vision_encoder],
            "resampler": [vlm.perceiver, *vlm.other_perceivers],
            "cross-attention": list(vlm.gated_cross_attn_layers.values()),
            "language model": [vlm.lang_encoder],
        }

    def fsdp_blocks(self) -> list[nn.Module]:
        return fsdp_blocks(self.vlm)

    def checkpoint_gradients(self, rows: int, context: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self.vlm.checkpoint_rows, self.vlm.recompute_context = rows, context

    def encode_vision(self, pixels: Tensor) -> Tensor:
        return self.vlm.encode_vision(pixels)

    def encode_frames(self, vision_tokens: Tensor) -> Tensor:
        """What does not depend on a frame's place in a window, so that it is computed once for each frame.

        Vision tokens (N, V, n, dv) -> latents (N, G, l, dv); or the vision tokens themselves, where the position of a
        frame is marked before they are resampled (`head.frame_position`).
        """
        return vision_tokens if self.head.position is not None else self.vlm.resample(vision_tokens)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one encoded frame."""
        if self.head.position is not None:
            return self.vlm.fusion.views, self.vlm.vision_encoder.tokens, self.vlm.vision_encoder.dim
        return self.vlm.fusion.groups, *self.vlm.perceiver.latents.shape

    def fuse(self, frames: Tensor, text: TextInputs) -> Tensor:
        """Features (N, f) of encoded frames (N, F, ...), oldest first, read with a text."""
        if self.head.position is not None:
            marked = frames + self.head.position[: frames.shape[1], None, None]  # (N, F, V, n, dv)
            frames = self.vlm.resample(marked.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (N, F, G, l, dv)
        # Hidden states of real tokens do not depend on padding. Those of padding depend on what it may attend to.
        attention = text.mask if text.pool_padding else None
        hidden = self.vlm.hidden(arrange(frames), text.tokens, attention)  # (N, L, P * d)
        pooled = torch.ones_like(text.mask) if text.pool_padding else text.mask
        return self.head.feature(hidden, pooled, text.robot_state)
