"""Environments without a simulator: a number must reach a target. Worker processes import them by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

TASKS = ("go_left", "go_right", "go_far")
TARGETS = {"go_left": -0.5, "go_right": 0.5, "go_far": 9.0}


class FakeEnv(gym.Env):
    """`position += 0.1 * action[0] + noise`; `go_far` cannot be reached within the usual 20 steps of a task."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    tasks = TASKS
    renderer = "none"

    def __init__(self, length: int = 1, render_mode: str | None = None, max_steps: int = 20):
        self.length, self.render_mode, self.max_steps = length, render_mode, max_steps
        box = gym.spaces.Box
        self.observation_space = gym.spaces.Dict({
            "rgb_static": box(0, 255, (20, 20, 3), np.uint8),
            "rgb_gripper": box(0, 255, (8, 8, 3), np.uint8),
            "robot_obs": box(-10, 10, (15,), np.float32),
            "instruction": box(0, 255, (256,), np.uint8),
        })  # fmt: skip
        self.action_space = box(-1, 1, (7,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        options = options or {}
        if options.get("task", TASKS[0]) not in TASKS:
            raise ValueError(f"unknown task {options['task']!r}: tasks are {', '.join(TASKS)}")
        self.chain = options.get("chain", 0)
        self.queue = [options.get("task", TASKS[0])]
        if self.length > 1:
            self.queue = [TASKS[(self.chain + index) % 2] for index in range(self.length)]
        self.completed, self.steps = 0, 0
        self.position = float(self.np_random.uniform(-0.2, 0.2))
        return self._observe(), self._info(False)

    def step(self, action: np.ndarray):
        self.position += 0.1 * float(action[0]) + float(self.np_random.normal(0, 0.02))
        self.steps += 1
        target = TARGETS[self.queue[self.completed]]
        solved = self.position * np.sign(target) > abs(target)
        if solved:
            self.completed, self.steps = self.completed + 1, 0
        return (
            self._observe(),
            float(solved),
            self.completed == self.length,
            self.steps == self.max_steps,
            self._info(solved),
        )

    def render(self) -> np.ndarray:
        return np.full((40, 40, 3), 128, np.uint8)

    def task_of(self, instruction: str) -> str | None:
        task = instruction.replace(" ", "_")
        return task if task in TASKS else None

    def expert(self) -> FakeExpert:
        return FakeExpert(self)

    def _observe(self) -> dict[str, np.ndarray]:
        text = np.zeros(256, np.uint8)
        words = self._task().replace("_", " ").encode()
        text[: len(words)] = list(words)
        level = int(np.clip(128 + 50 * self.position, 0, 255))
        return {
            "rgb_static": np.full((20, 20, 3), level, np.uint8),
            "rgb_gripper": np.full((8, 8, 3), level, np.uint8),
            "robot_obs": np.full(15, np.clip(self.position, -10, 10), np.float32),
            "instruction": text,
        }

    def _task(self) -> str:
        return self.queue[min(self.completed, self.length - 1)]

    def _info(self, solved: bool) -> dict[str, Any]:
        info = {"is_success": solved, "task": self._task(), "instruction": self._task().replace("_", " ")}
        if self.length > 1:
            info |= {"subtask": self.completed, "completed": self.completed, "chain": self.chain}
        return info


class FakeExpert:
    """Walks towards the target."""

    tasks = TASKS

    def __init__(self, env: FakeEnv):
        self.env = env

    def act(self) -> np.ndarray:
        action = np.zeros(7, np.float32)
        action[0] = np.sign(TARGETS[self.env._task()])
        return action


gym.register("fake/Task-v0", FakeEnv)
gym.register("fake/Chain-v0", FakeEnv, kwargs={"length": 5})
gym.register("fake/Crash-v0", "fake_env:CrashEnv")


class CrashEnv(FakeEnv):
    """Breaks in the middle of an episode of `go_right`."""

    def step(self, action: np.ndarray):
        if self._task() == "go_right" and self.steps == 2:
            raise RuntimeError("the simulator exploded")
        return super().step(action)


class TroubledEnv(FakeEnv):
    """Kills its process, or hangs, at the third step of some episodes; each as often as `times` says, or always.

    Args:
        marks: folder in which it notes how often it did.
    """

    def __init__(self, marks: str, kind: str = "die", task: str = "go_right", times: int = 1):
        super().__init__()
        self.marks, self.kind, self.troubled, self.times = Path(marks), kind, task, times

    def step(self, action: np.ndarray):
        count = len(list(self.marks.iterdir()))
        if self._task() == self.troubled and self.steps == 2 and count < self.times:
            (self.marks / f"{count}").touch()
            if self.kind == "die":
                os._exit(9)
            time.sleep(1000)
        return super().step(action)


gym.register("fake/Troubled-v0", TroubledEnv)


class Unnamed(gym.Env):
    """Knows no task: five steps, and success if the sum of the actions is positive, where it `tells`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, tells: bool = True, render_mode: str | None = None):
        self.tells, self.render_mode = tells, render_mode
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.total = 0, 0.0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.count, self.total = self.count + 1, self.total + float(np.sum(action))
        info = {"is_success": self.total > 0} if self.tells else {}
        return np.zeros(3, np.float32), float(action[0]), False, self.count == 5, info

    def render(self):
        return np.full((40, 40, 3), 128, np.uint8)


gym.register("fake/Unnamed-v3", Unnamed)


class Single(FakeEnv):
    """Like a simulator that draws with EGL: a process can have one of them open."""

    opened, is_open = 0, False

    def __init__(self, **options):
        assert not Single.is_open, "another one is open"
        Single.is_open = True
        Single.opened += 1
        super().__init__(**options)

    def close(self):
        Single.is_open = False


gym.register("fake/Single-v0", Single)
