"""Co-training with scene images: a policy goes on learning where things are while it learns to act.

Demonstrations of a few scenes can be fitted by remembering what stands where in each of them, and fine-tuning makes a
vision-language model do that. Images of many tables, of which it is asked where things are, hold it to looking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent.base_policy import BasePolicy
from rf_agent.demos.augment import jitter_colors
from rf_agent.demos.grounding import POSITION_UNIT, TARGETS, SceneImageSet
from rf_agent.errors import UserError
from rf_agent.nn.losses import position_loss
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.training.vl_objective import PositionHead, mean_target, text_features

POSITIONS = 4
"""Positions that are asked for in each image of a step."""
JITTER = 0.2
"""Strength of the random changes of light and colour."""


@dataclass(kw_only=True)
class SceneCoTrainingConfig:
    """Scene images that a policy is trained on beside demonstrations; none are by default."""

    scene_images: tuple[Path, ...] = ()
    """Files of scene images (HDF5), such as `rf-agent pretrain` rendered: fine-tuning then goes on learning where
    things are, also in scenes without demonstrations."""
    scene_batch_size: int = 8
    """Scene images of a step."""
    scene_weight: float = 0.05
    """Weight of finding things in them relative to demonstrations."""


class SceneBatch(NamedTuple):
    """Scene images with texts about things in them, and where those are."""

    images: Tensor
    """(N, V, S, S, 3) uint8."""
    texts: Sequence[str]
    """N * R of them, R consecutive ones for each image."""
    target: Tensor
    """(N * R, TARGET_SIZE), see `rf_agent.demos.grounding.TARGETS`; NaN where there is nothing to know."""
    share: float
    """Share of the whole step's scene images that lie in this batch."""


class SceneCoTraining(nn.Module):
    """The part of a step's loss that comes from scene images, with the head that reads positions from features.

    Args:
        config: the images and their weight.
        policy: what learns. It is not kept as a part of this module.

    Raises:
        UserError: the policy is none that a vision-language model is part of, or nothing of that learns.
        ValueError, FileNotFoundError: bad settings or files.
    """

    def __init__(self, config: SceneCoTrainingConfig, policy: BasePolicy) -> None:
        super().__init__()
        if not isinstance(policy, RoboFlamingoPolicy):
            raise UserError(
                f"scene images are for RoboFlamingo: a policy of type {policy.config.type!r} has no features of texts"
            )
        if not any(parameter.requires_grad for parameter in policy.vlm.parameters()):
            raise UserError(
                "--scene-images are for fine-tuning, but nothing of the vision-language model learns: leave them out, "
                "or give another --trainable"
            )
        if not 0 <= config.scene_weight < math.inf:
            raise UserError(f"--scene-weight is {config.scene_weight}: give a number from 0 on")
        self.config = config
        self.data = SceneImageSet(config.scene_images, policy.config)
        self.positions = PositionHead(policy.vlm.feature_dim, mean_target(self.data)).to(policy.device)

    def draw(self, seed: int, step: int, part: int, parts: int) -> SceneBatch | None:
        """One of the parts of a step's batch, which depends on these numbers alone; None if there is nothing in it."""
        rows = np.random.default_rng([seed, step, 1]).choice(
            len(self.data), self.config.scene_batch_size, replace=len(self.data) < self.config.scene_batch_size
        )
        own = np.array_split(rows, parts)[part]
        if not len(own):
            return None
        entries = self.data.draw_positions(own, POSITIONS, np.random.default_rng([seed, step, 2, part])).ravel()
        texts = [self.data.texts[index] for index in self.data.positions.text[entries]]
        target = torch.from_numpy(self.data.positions.target[entries])
        return SceneBatch(torch.from_numpy(self.data.images[own]), texts, target, len(own) / len(rows))

    def forward(self, policy: RoboFlamingoPolicy, batch: SceneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss, to be added to that of demonstrations, and the metrics `scenes_loss` and `scenes_cm`.

        Parts of a step are weighed by their images.
        """
        pixels = jitter_colors(normalise(batch.images.to(policy.device), policy.config.image), JITTER)
        with torch.set_grad_enabled(any(p.requires_grad for p in policy.vision_encoder.parameters())):
            vision = policy.vlm.encode_vision(pixels)
        predicted = self.positions(text_features(policy, policy.vlm.media(vision), batch.texts))
        target = batch.target.to(policy.device)
        known = ~target.isnan()
        loss = position_loss(predicted, target.nan_to_num(), known)
        off = (predicted.detach().float() - target)[:, TARGETS["position"]].norm(dim=1).median()
        metrics = {"scenes_loss": loss.detach(), "scenes_cm": 100 * POSITION_UNIT * off}
        return self.config.scene_weight * batch.share * loss, metrics
