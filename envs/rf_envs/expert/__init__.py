"""The scripted demonstrator: it solves a task from the simulator's state, to be imitated from images.

It remembers nothing. Every action is computed anew from what the cameras could also see (the measured pose
of the gripper, the blocks, the fixtures), so that a policy without that state can learn the same function,
and so that the expert goes on sensibly from any state in which noise, a slip or another policy leaves the robot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_envs.expert.motions import servo
from rf_envs.expert.skills import SKILLS
from rf_envs.expert.view import View

__all__ = ["SKILLS", "Expert"]


class Expert:
    """Demonstrates the current task of one environment of this package.

    Args:
        env: a single-task or chain environment, wrapped or not; it must have been reset before `act`.
    """

    tasks: tuple[str, ...] = tuple(SKILLS)
    """Names of the tasks that it can demonstrate."""

    def __init__(self, env: Any) -> None:
        self._env = env.unwrapped

    def act(self) -> NDArray[np.float32]:
        """The next action (7,) in [-1, 1] for the environment's current task.

        Raises:
            gymnasium.error.ResetNeeded: there is no episode yet.
            ValueError: the current task has no skill, or the instruction means none; the message names it.
        """
        task = self._env.task
        if not task:
            View.of(self._env)  # without an episode this says so
            raise ValueError(
                "What the environment was asked for is none of its tasks, so there is nothing to demonstrate; name the "
                "task, too: env.ask(instruction, task=...)."
            )
        if task not in SKILLS:
            raise ValueError(f"The expert has no skill for task '{task}'; it knows {', '.join(sorted(SKILLS))}.")
        return servo(view := View.of(self._env), SKILLS[task](view))
