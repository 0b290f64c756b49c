"""What MCIL and HULC see: a small embedding of every view, and the instruction beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rf_agent.baselines.config import HULCConfig, MCILConfig, PerceptualEncoderConfig
from rf_agent.baselines.model import BaselineModel, Encoder, Sentence
from rf_agent.nn.heads.base import MLP
from rf_agent.nn.heads.plan import FeatureLayout

SHARPNESS = 8.0
"""Factor of the spatial softmax's logits before training. Tokens are normalised, so that with 1 all places weigh about
the same at first, and the coordinates of different frames deviate by a few hundredths (0.03 with roboflamingo-tiny's
tower)."""


class SpatialSoftmax(nn.Module):
    """Where in the image each of some learned features is: expected coordinates (arXiv:1504.00702), with a learned
    temperature.

    Args:
        tokens: n, cells of a square grid. dim: dv. channels: C, features that are looked for.
    """

    places: Tensor

    def __init__(self, tokens: int, dim: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Linear(dim, channels)
        self.log_sharpness = nn.Parameter(torch.full((channels,), math.log(SHARPNESS)))
        side = math.isqrt(tokens)
        line = torch.linspace(-1.0, 1.0, side) if side > 1 else torch.zeros(1)
        places = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).flatten(0, 1)  # (n, 2)
        self.register_buffer("places", places, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, n, dv) -> (N, 2 C): row and column of each feature, in [-1, 1]."""
        weights = (self.log_sharpness.exp() * self.features(tokens)).softmax(dim=1)  # (N, n, C)
        return (weights.transpose(1, 2) @ self.places.to(weights.dtype)).flatten(1)


class FlatTokens(nn.Module):
    """All tokens of a view side by side, each made narrower first."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, n, dv) -> (N, n * C)."""
        return self.reduce(tokens).relu().flatten(1)


class PerceptualEncoder(Encoder):
    """The perceptual embedding of a frame, and the sentence embedding beside it.

    MCIL and HULC have convolutional networks of their own before it, which learn. Here the frozen vision tower stands
    in their place, so that all that learns is computed from cached tokens.

    Args:
        views: V. tokens: n. dim: dv. sentence_dim: ds.
        config: see `PerceptualEncoderConfig`.
    """

    def __init__(self, views: int, tokens: int, dim: int, sentence_dim: int, config: PerceptualEncoderConfig) -> None:
        super().__init__()
        self.views = nn.ModuleList()
        for view in range(views):
            if view == 0 or config.keypoints == "all":
                read: nn.Module = SpatialSoftmax(tokens, dim, config.channels)
                numbers = 2 * config.channels
            else:
                read, numbers = FlatTokens(dim, config.flat_channels), tokens * config.flat_channels
            # the norm gives it the scale of a plan and of a goal, beside which the decoder reads it
            norm = nn.LayerNorm(config.width)
            self.views.append(nn.Sequential(read, MLP(numbers, config.hidden, config.width), norm))
        self.dim = views * config.width + sentence_dim

    def forward(self, vision_tokens: Tensor, sentence: Sentence) -> Tensor:
        """Vision tokens (N, V, n, dv), N sentences -> (N, V * width + ds)."""
        seen = [view(tokens) for view, tokens in zip(self.views, vision_tokens.unbind(1), strict=True)]
        return torch.cat((*seen, sentence.embedding), dim=1)


class PlanModel(BaselineModel):
    """A network whose head takes perceptual and sentence embeddings apart again."""

    config: MCILConfig | HULCConfig

    def make_encoder(self) -> Encoder:
        tower, views = self.vision_tower, len(self.config.views)
        return PerceptualEncoder(views, tower.tokens, tower.dim, self.sentence_encoder.dim, self.config.encoder)

    @property
    def layout(self) -> FeatureLayout:
        """How what the encoder returns is divided."""
        return FeatureLayout(len(self.config.views), self.config.encoder.width, self.sentence_encoder.dim)
