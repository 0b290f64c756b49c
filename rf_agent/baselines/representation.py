"""Visual representations under our policy head (the paper's Table 7): frozen, or fine-tuned with the policy.

R3M (Nair et al. 2022, arXiv:2203.12601) is the one that is registered here. Simplified against it: its language model
and reward are left out, since they take no part in acting; a sentence encoder of its own reads the instruction; the
whole image is resized to 224 pixels, where R3M cuts its middle out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rf_agent.baselines.config import R3MConfig
from rf_agent.baselines.model import BaselineModel, BaselinePolicy, Encoder, Sentence


class RepresentationEncoder(Encoder):
    """Pooled tokens of each view, joined with the sentence embedding; nothing in it learns.

    Args:
        views: V. tokens: n. dim: dv. sentence_dim: ds.
        pooling: `mean` or `flat`.
    """

    def __init__(self, views: int, tokens: int, dim: int, sentence_dim: int, pooling: str) -> None:
        super().__init__()
        self.flat = pooling == "flat"
        self.dim = views * dim * (tokens if self.flat else 1) + sentence_dim

    def forward(self, vision_tokens: Tensor, sentence: Sentence) -> Tensor:
        """Vision tokens (N, V, n, dv), N sentences -> (N, V * dv + ds), with `flat` (N, V * n * dv + ds)."""
        pooled = vision_tokens if self.flat else vision_tokens.mean(dim=2)
        return torch.cat((pooled.flatten(1), sentence.embedding), dim=1)


class R3MModel(BaselineModel):
    """R3M's image features and a sentence embedding under our head."""

    config: R3MConfig

    def make_encoder(self) -> Encoder:
        tower = self.vision_tower
        pooling = self.config.encoder.pooling
        return RepresentationEncoder(
            len(self.config.views), tower.tokens, tower.dim, self.sentence_encoder.dim, pooling
        )


class R3MPolicy(BaselinePolicy, R3MModel):
    """The agent over R3M's representation."""

    config: R3MConfig
    config_class = R3MConfig
