"""What the conformance tests share: the registered ids of the embedded table, and motions that touch things."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

import rf_envs  # noqa: F401  registers the ids

IDS = tuple(sorted(name for name in gym.registry if name.startswith("rf/PlayTable")))
TABLES = tuple(name for name in IDS if "Chain" not in name)
CHAINS = tuple(name for name in IDS if "Chain" in name)
KEYS = ("rgb_static", "rgb_gripper", "robot_obs", "instruction")


class Stir:
    """Drives the gripper through the blocks from place to place, turning, opening and closing: contacts matter.

    Its actions follow from its seed and the observations alone.
    """

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)
        self._left = 0

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """An action (7,) float32 for the newest observation."""
        if self._left == 0:
            self._left = int(self._rng.integers(8, 25))
            self._target = self._rng.uniform((-0.3, -0.2, 0.44), (0.35, 0.12, 0.56))
            self._turn = self._rng.uniform(-0.3, 0.3, 3)
            self._gripper = self._rng.choice((-1.0, 1.0))
        self._left -= 1
        reach = (self._target - observation["robot_obs"][:3]) / 0.02
        return np.clip([*reach, *self._turn, self._gripper], -1, 1).astype(np.float32)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two observations are the same bits under the same keys."""
    return set(one) == set(other) and all(
        one[key].dtype == other[key].dtype and one[key].tobytes() == other[key].tobytes() for key in one
    )
