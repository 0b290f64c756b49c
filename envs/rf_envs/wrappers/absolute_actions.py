"""Actions that say where the end effector shall be, instead of how it shall move."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rf_envs.simulators.base import MAX_RELATIVE_POSITION, MAX_RELATIVE_ROTATION

POSITION_LOW, POSITION_HIGH = (-0.6, -0.8, 0.2), (0.6, 0.4, 1.0)
"""Bounds of the end effector (m): the table and the room around it that the arm reaches."""


class AbsoluteActions(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Takes targets of the end effector in the world: x, y, z (m), Euler XYZ (rad) and the gripper (> 0 opens).

    CALVIN's relative actions add up to a target that the arm follows with a lag. This wrapper keeps account of
    that target, which starts at the observed pose of each episode, and sends the step from it to the one asked
    for. So an action means the same as in CALVIN's absolute control (its recorded ``actions``), nothing winds
    up while the arm lags or is held back, and no feedback can make it overshoot: repeat an action until
    ``robot_obs`` is where you want it. A step covers at most 0.02 m and 0.05 rad per axis; what is farther away
    is approached over several, in a straight line. Angles go the short way round.

    Positions outside the space are clipped to it; `gymnasium.wrappers.RescaleAction` makes it [-1, 1] for
    learners. The environment's scripted expert acts in relative actions.

    Args:
        env: an environment of this package, with ``robot_obs`` in its observations: wrap it before wrappers
            that rename observations.

    Examples:
        >>> env = AbsoluteActions(gym.make("rf_envs:rf/PlayTableD-v0"))
        >>> observation, info = env.reset(seed=0)
        >>> above_the_table = np.array([0.1, -0.1, 0.6, np.pi, 0.0, np.pi / 2, 1.0], dtype=np.float32)
        >>> for _ in range(40):
        ...     observation, reward, terminated, truncated, info = env.step(above_the_table)
        >>> bool(np.abs(observation["robot_obs"][:3] - above_the_table[:3]).max() < 0.005)
        True
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or "robot_obs" not in space.spaces:
            raise ValueError(
                f"AbsoluteActions needs observations with 'robot_obs', got {_describe(space)}; wrap an environment "
                "of rf_envs, before wrappers that rename its observations."
            )
        pi = np.float32(np.pi)
        self.action_space = spaces.Box(
            np.array([*POSITION_LOW, -pi, -pi, -pi, -1], dtype=np.float32),
            np.array([*POSITION_HIGH, pi, pi, pi, 1], dtype=np.float32),
        )
        self._target: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the target is where the end effector is."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._target = np.array(observation["robot_obs"][:6], dtype=np.float64)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Move towards the pose and set the gripper of an action (7,).

        Raises:
            ValueError: the action has another shape or holds a number that is not finite.
            gymnasium.error.ResetNeeded: there is no episode yet.
        """
        return self.env.step(self._relative(_check(action)))

    def _relative(self, goal: np.ndarray) -> np.ndarray:
        """The relative action (7,) that takes the target towards the goal (7,), which the target follows."""
        if self._target is None:
            raise gym.error.ResetNeeded("The environment has not been reset yet; call env.reset() first.")
        position = np.clip(goal[:3], POSITION_LOW, POSITION_HIGH)
        turn = (goal[3:6] - self._target[3:] + np.pi) % (2 * np.pi) - np.pi
        action = np.zeros(7, dtype=np.float32)
        action[:3] = _within_reach((position - self._target[:3]) / MAX_RELATIVE_POSITION)
        action[3:6] = _within_reach(turn / MAX_RELATIVE_ROTATION)
        action[6] = 1.0 if goal[6] > 0 else -1.0
        # from the rounded action, as the simulator adds it up
        self._target[:3] += action[:3].astype(np.float64) * MAX_RELATIVE_POSITION
        self._target[3:] += action[3:6].astype(np.float64) * MAX_RELATIVE_ROTATION
        return action


def _within_reach(step: np.ndarray) -> np.ndarray:
    """The step, shortened to [-1, 1] in the same direction."""
    return step / max(1.0, float(np.abs(step).max()))


def _check(action: Any) -> np.ndarray:
    array = np.asarray(action, dtype=np.float64)
    expected = "expected (x, y, z) in m, Euler angles (x, y, z) in rad and the gripper (> 0 opens)"
    if array.shape != (7,):
        raise ValueError(f"The action has shape {array.shape}; {expected}: (7,).")
    if not np.isfinite(array).all():
        wrong = np.flatnonzero(~np.isfinite(array)).tolist()
        raise ValueError(f"The action is not finite at index {wrong}; {expected}. Check the policy's output.")
    return array


def _describe(space: gym.Space) -> str:
    return f"{sorted(space.spaces)}" if isinstance(space, spaces.Dict) else type(space).__name__
