"""Co-training with scene images: a policy goes on learning where things are while it learns to act.

Demonstrations of a few scenes can be fitted by remembering what stands where in each of them, and fine-tuning makes a
vision-language model do that. Images of many tables, of which it is asked where things are, hold it to looking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent.base_policy import BasePolicy
from rf_agent.demos.augment import draw_colors, jitter_colors
from rf_agent.demos.grounding import POSITION_UNIT, TARGETS, SceneImageSet
from rf_agent.errors import UserError
from rf_agent.nn.losses import position_loss
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.training.vision_cache import VisionCache, cache_key, has_room
from rf_agent.training.vl_cotraining import fine_tuned
from rf_agent.training.vl_objective import PositionHead, mean_target, text_features

POSITIONS = 4
"""Positions that are asked for in each image of a step."""
JITTER = 0.2
"""Strength of the random changes of light and colour, where frames are encoded at each step."""


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

    images: Tensor | None
    """(N, V, S, S, 3) uint8, where they are encoded at each step."""
    vision_tokens: Tensor | None
    """(N, V, n, dv) float16, where those are kept instead."""
    texts: Sequence[str]
    """N * R of them, R consecutive ones for each image."""
    target: Tensor
    """(N * R, TARGET_SIZE), see `rf_agent.demos.grounding.TARGETS`; NaN where there is nothing to know."""
    colors: Tensor
    """(N, V, 5) numbers for `jitter_colors` of images."""
    share: float
    """Share of what is known of the whole step's things that lies in this batch."""


class SceneCoTraining(nn.Module):
    """The part of a step's loss that comes from scene images, with the head that reads positions from features.

    With `encodes_once` images are not changed, and their tokens rounded as `keep_tokens` keeps them, whether the disk
    has room for that or not: a run must not depend on it.

    Args:
        config: the images and their weight.
        policy: what learns. It is not kept as a part of this module.
        seed: of the head's first weights and of the draws.

    Raises:
        UserError: the policy is none that a vision-language model is part of, or nothing of that learns.
        ValueError, FileNotFoundError: bad settings or files.
    """

    def __init__(self, config: SceneCoTrainingConfig, policy: BasePolicy, seed: int = 0) -> None:
        super().__init__()
        policy = fine_tuned(policy, "scene images")
        if not 0 <= config.scene_weight < math.inf:
            raise UserError(f"--scene-weight is {config.scene_weight}: give a number from 0 on")
        self.config, self._seed = config, seed
        self.data = SceneImageSet(config.scene_images, policy.config)
        self.encodes_once = False
        self._cache: VisionCache | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.positions = PositionHead(policy.vlm.feature_dim, mean_target(self.data)).to(policy.device)

    def draw(self, step: int, part: int = 0, parts: int = 1) -> SceneBatch | None:
        """One of the parts of a step's batch; None if there is nothing in it. Together they are the same step."""
        rng, count = np.random.default_rng([self._seed, step, 1]), self.config.scene_batch_size
        rows = rng.choice(len(self.data), count, replace=len(self.data) < count)
        entries = self.data.draw_positions(rows, POSITIONS, rng)  # (N, R)
        colors = draw_colors([1] * count, self.data.images.shape[1], rng)
        own = np.array_split(np.arange(count), parts)[part]
        if not len(own):
            return None
        targets = self.data.positions.target
        target = targets[entries[own].ravel()]
        return SceneBatch(
            torch.from_numpy(self.data.images[rows[own]]) if self._cache is None else None,
            None if self._cache is None else self._cache.get(rows[own]),
            [self.data.texts[index] for index in self.data.positions.text[entries[own].ravel()]],
            torch.from_numpy(target),
            torch.from_numpy(colors[own]),
            float((~np.isnan(target)).sum() / (~np.isnan(targets[entries])).sum()),
        )

    def keep_tokens(self, folder: Path, policy: RoboFlamingoPolicy) -> bool:
        """Have images encoded once, for a tower that does not learn, unless the disk has no room for that.

        Args:
            folder: of all caches of vision tokens.
            policy: whose tower encodes.

        Returns:
            Whether they are.
        """
        tower, count = policy.vision_encoder, len(self.data)
        shape = self.data.images.shape[1], tower.tokens, tower.dim
        own = folder / cache_key(f"scene images {self.facts}", tower, policy.config)
        if not has_room([own], 2 * count * math.prod(shape)):
            return False

        def encode(rows: Tensor) -> Tensor:
            images = torch.from_numpy(self.data.images[rows.numpy()]).to(policy.device)
            return policy.encode_vision(normalise(images, policy.config.image))

        self._cache = VisionCache(own, (0, count), shape, encode)
        return True

    def close(self) -> None:
        """Record which vision tokens are kept."""
        if self._cache is not None:
            self._cache.close()

    @property
    def facts(self) -> dict[str, Any]:
        """Which images there are, see `SceneImageSet.facts`."""
        return self.data.facts

    def forward(self, policy: RoboFlamingoPolicy, batch: SceneBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss, to be added to that of demonstrations, and the metrics `scenes_loss` and `scenes_cm`.

        The losses of all parts of a step sum to that of the step.
        """
        vision = self._vision_tokens(policy, batch)
        predicted = self.positions(text_features(policy, policy.vlm.media(vision), batch.texts))
        target = batch.target.to(policy.device)
        known = ~target.isnan()
        loss = position_loss(predicted, target.nan_to_num(), known)
        off = (predicted.detach().float() - target)[:, TARGETS["position"]].norm(dim=1).median()
        metrics = {"scenes_loss": loss.detach(), "scenes_cm": 100 * POSITION_UNIT * off}
        return self.config.scene_weight * batch.share * loss, metrics

    def _vision_tokens(self, policy: RoboFlamingoPolicy, batch: SceneBatch) -> Tensor:
        if batch.vision_tokens is not None:
            return batch.vision_tokens.to(policy.device).float()
        assert batch.images is not None
        pixels = normalise(batch.images.to(policy.device), policy.config.image)
        if not self.encodes_once:
            pixels = jitter_colors(pixels, JITTER, batch.colors.to(policy.device))
        with torch.set_grad_enabled(any(p.requires_grad for p in policy.vision_encoder.parameters())):
            tokens = policy.vlm.encode_vision(pixels)
        return tokens.half().float() if self.encodes_once else tokens
