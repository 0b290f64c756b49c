"""Environments with the play table's interface, without a simulator. `light_table:rf/LightTable-v0` registers them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rf_envs.spaces import ROBOT_OBS_LOW, action_space, encode_instruction, observation_space

TASKS = {"go_left": "go to the left", "go_right": "go to the right"}
SIZES = (48, 36)


class LightTable(gym.Env):
    """A coloured number line, of which every frame shows the place, so that no two are alike.

    Args:
        length: steps after which a task is done; by default the seed says it.
        rewards_place: give the place as the reward of each step, which all actions so far decide, and not the tasks
            done.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        render_mode: str | None = None,
        tasks: list[str] | None = None,
        length: int | None = None,
        subtasks: int = 1,
        limit: int = 40,
        rewards_place: bool = False,
        image_size: tuple[int, int] = SIZES,
    ):
        self.render_mode, self.names = render_mode, list(tasks or TASKS)
        self.fixed_length, self.subtasks, self.sizes = length, subtasks, image_size
        self.rewards_place = rewards_place
        self.observation_space, self.action_space = observation_space(image_size), action_space()
        self._max_episode_steps = limit
        self.task = self.names[0]

    @property
    def task_description(self) -> str:
        return TASKS[self.task]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if options:
            raise ValueError(f"unknown reset options {options}")  # as the play table does
        self.place = self.np_random.uniform(-1, 1, 3)
        self.length = self.fixed_length or int(self.np_random.integers(5, 13))
        self.steps = self.completed = 0
        self.task = self.names[int(self.np_random.integers(len(self.names)))]
        return self._observe(), self._info()

    def step(self, action: np.ndarray):
        assert action.shape == (7,) and np.abs(action).max() <= 1
        self.place = np.clip(self.place + 0.1 * action[:3].astype(np.float64), -1, 1)
        self.steps += 1
        done = self.steps % self.length == 0
        if done:
            self.completed += 1
            self.task = self.names[(self.names.index(self.task) + 1) % len(self.names)]
        reward = float(self.place[0]) if self.rewards_place else float(done)
        return self._observe(), reward, self.completed == self.subtasks, False, self._info()

    def render(self) -> np.ndarray:
        return self._image(64)

    def _info(self) -> dict[str, Any]:
        return {"is_success": self.completed == self.subtasks, "task": self.task, "instruction": self.task_description}

    def _observe(self) -> dict[str, np.ndarray]:
        state = np.zeros(ROBOT_OBS_LOW.shape, np.float32)
        state[:3] = self.place
        return {
            "rgb_static": self._image(self.sizes[0]),
            "rgb_gripper": self._image(self.sizes[1])[::-1].copy(),
            "robot_obs": state,
            "instruction": encode_instruction(self.task_description),
        }

    def _image(self, size: int) -> np.ndarray:
        rows, columns = np.mgrid[0:size, 0:size] / size
        levels = np.stack([rows * 120, columns * 120, rows * columns * 120], axis=-1)
        return (levels + 60 * (1 + self.place)).astype(np.uint8)


gym.register("rf/LightTable-v0", "light_table:LightTable")
gym.register("rf/LightChain-v0", "light_table:LightTable", kwargs={"subtasks": 3})
