"""Small synthetic data files for the tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rf_agent.demos import Demonstration
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.store import append_demos, create_store

TASKS = ("open_drawer", "close_drawer", "turn_on_led")
CALVIN = Layout(("rgb_static", "rgb_gripper"), 7, 6, True, "robot_obs", 15, 30.0, 1, True, True)
"""What demonstrations of the environments look like."""


def make_demo(samples: int, stride: int, task: str, seed: int, size: int = 32) -> Demonstration:
    """A demonstration whose images show its task, so that it can be learned."""
    rng = np.random.default_rng(seed)
    actions = np.full((samples, 7), (TASKS.index(task) - 1) * 0.5, np.float32)
    actions[:, 6] = np.where(np.arange(samples) < samples // 2, 1.0, -1.0)
    frames = rng.integers(0, 60, (-(-samples // stride), size, size, 3)).astype(np.uint8)
    frames[..., TASKS.index(task)] += 150
    return Demonstration(
        images={"rgb_static": frames, "rgb_gripper": frames},
        actions=actions,
        instruction=f"{task.replace('_', ' ')} {seed % 2}",
        task=task,
        state=np.outer(np.arange(samples) / 100, np.ones(15)).astype(np.float32),
        attributes={"seed": seed},
    )


def make_store(path: Path, demos: int = 6, stride: int = 1, size: int = 32) -> Path:
    """A store with demonstrations of different lengths."""
    layout = replace(CALVIN, frame_stride=stride)
    create_store(path, layout, {"env_id": "test"})
    for index in range(demos):
        demo = make_demo(7 + 5 * (index % 3), stride, TASKS[index % len(TASKS)], index, size)
        append_demos(path, [demo], layout)
    return path
