"""MLPs without recurrence (paper, Fig. 3a): one step, or a history that the language model sees in its media."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rf_agent.config import ActionConfig, HeadConfig, StateConfig
from rf_agent.nn.heads.base import PolicyHead, register


@register("fc")
class MLPHead(PolicyHead):
    """Every token through an MLP, then pooled: "MLP w/o hist". Any number of observation steps, each for itself."""

    def __init__(self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig) -> None:
        super().__init__(dim, config, action, state, feature_dim=config.hidden)
        self.window_size = 1
        self.mlp = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, config.hidden))

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (N, L, d), mask (N, L) -> (N, hidden)."""
        return super().pool(self.mlp(hidden), mask)

    def recall(self, features: Tensor) -> Tensor:
        """The features (B, T, hidden) themselves."""
        return features


@register("fc_hist")
class HistoryMLPHead(MLPHead):
    """The language model sees the media of the last W frames at once, and the action is that of the last: "MLP w hist".

    With `head.frame_position` the vision tokens of the f-th frame of the window (0 is the oldest) get a learned
    vector before they are resampled.
    """

    def __init__(self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig) -> None:
        super().__init__(dim, config, action, state)
        self.frames = config.window

    def mark_frames(self, vision_dim: int) -> None:
        """As `PolicyHead.mark_frames`."""
        self.position = nn.Parameter(0.02 * torch.randn(self.frames, vision_dim))
