"""Disturbances of the demonstrator: they take it off its path, so that the way back is in the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CORRELATION, SIGMA = 0.6, 0.3  # of the AR(1) process, in action units
KICK_PROBABILITY = 0.02  # per step
KICK_STEPS = (3, 5)
CLEAN_EPISODES = 0.2  # share of the episodes without any


class ActionNoise:
    """Correlated noise and occasional kicks on the motion of a robot whose actions lie in [-1, 1].

    Every instance (one per episode) draws its own level, so that the data hold both clean and rough episodes.

    Args:
        scale: 1 is the usual strength, 0 none.
        rng: source of all randomness.
        weights: (D,) strength at each entry of the action; 0 for what must not be disturbed, such as a gripper. Kicks
            hit the entries of weight 1.
    """

    def __init__(self, scale: float, rng: np.random.Generator, weights: Sequence[float]):
        self.rng = rng
        level = 0.0 if rng.random() < CLEAN_EPISODES else rng.uniform(0.3, 1.0)
        self.level = float(scale * level)
        strength = np.asarray(weights, float)
        self._moved, self._kicked = np.flatnonzero(strength), np.flatnonzero(strength == 1.0)
        self._sigma = SIGMA * strength[self._moved]
        self._drift = np.zeros(len(self._moved))
        self._kick, self._kick_left = np.zeros(len(strength)), 0

    def __call__(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """The action (D,) to execute in place of `action`: disturbed and clipped to [-1, 1]."""
        executed = np.array(action, np.float32)
        if self.level == 0.0:
            return np.clip(executed, -1.0, 1.0)
        self._drift = CORRELATION * self._drift + self._sigma * self.rng.standard_normal(len(self._moved))
        if self._kick_left == 0 and self.rng.random() < KICK_PROBABILITY:
            direction = self.rng.standard_normal(len(self._kicked))
            self._kick = np.zeros(len(executed))
            self._kick[self._kicked] = direction / np.linalg.norm(direction)
            self._kick_left = int(self.rng.integers(KICK_STEPS[0], KICK_STEPS[1] + 1))
        kick = self._kick[self._moved] if self._kick_left else 0.0
        self._kick_left = max(0, self._kick_left - 1)
        executed[self._moved] += (self.level * (self._drift + kick)).astype(np.float32)
        return np.clip(executed, -1.0, 1.0)
