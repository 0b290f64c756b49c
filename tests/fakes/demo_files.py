"""Small synthetic data files for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rf_agent.demos.store import Demo, append_demos, create_store

TASKS = ("open_drawer", "close_drawer", "turn_on_led")


def make_demo(samples: int, stride: int, task: str, seed: int, size: int = 32) -> Demo:
    """A demonstration whose pictures show its task, so that it can be learned."""
    rng = np.random.default_rng(seed)
    actions = np.full((samples, 7), (TASKS.index(task) - 1) * 0.5, np.float32)
    actions[:, 6] = np.where(np.arange(samples) < samples // 2, 1.0, -1.0)
    frames = rng.integers(0, 60, (-(-samples // stride), size, size, 3)).astype(np.uint8)
    frames[..., TASKS.index(task)] += 150
    return Demo(
        actions,
        actions.copy(),
        np.outer(np.arange(samples) / 100, np.ones(15)).astype(np.float32),
        {"rgb_static": frames, "rgb_gripper": frames},
        {"task": task, "instruction": f"{task.replace('_', ' ')} {seed % 2}", "seed": seed, "success": True},
    )


def make_store(path: Path, demos: int = 6, stride: int = 1, size: int = 32) -> Path:
    """A store with demonstrations of different lengths."""
    create_store(path, {"env_id": "test", "frame_stride": stride})
    for index in range(demos):
        append_demos(path, [make_demo(7 + 5 * (index % 3), stride, TASKS[index % len(TASKS)], index, size)])
    return path
