"""A policy without a network, for the tests of the server: its actions say which environment asked, and how often."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np


def fake_config(chunk_size: int = 2, n_action_steps: int = 1, views: tuple[str, ...] = ("front", "wrist")):
    """What a server reads of a configuration."""
    head = SimpleNamespace(
        chunk_size=chunk_size,
        repeat=1,
        n_action_steps=n_action_steps,
        replan_every=n_action_steps,
        proprioception=True,
        state_optional=False,
    )
    return SimpleNamespace(
        head=head,
        views=views,
        image=SimpleNamespace(size=8),
        state=SimpleNamespace(key="state", dim=2),
        action=SimpleNamespace(dim=2),
        fps=10.0,
    )


class FakePolicy:
    """Acts (observation steps since the start, first number of the state). A negative number is an error.

    Args:
        seconds: that a batch takes.
    """

    def __init__(self, seconds: float = 0.0, **config):
        self.config, self.seconds, self.batches = fake_config(**config), seconds, []

    def predict_steps(self, observation, state=None, episode_start=None):
        level = observation["state"][:, 0]
        self.batches.append(len(level))
        time.sleep(self.seconds)
        if (level < 0).any():
            raise ValueError("a negative level was given")
        if (level == 666).any():
            level = np.where(level == 666, np.nan, level)
        count = np.zeros(len(level), int) if state is None else state[0]
        count = np.where(episode_start, 0, count) + 1
        actions = np.stack([count, level], axis=1).astype(np.float32)
        return np.repeat(actions[:, None], self.config.head.chunk_size, axis=1), (count,)


def observe(level: float = 0, **changes):
    """An observation of `FakePolicy`, with some of its values exchanged, or left out where None is given."""
    values = {
        "front": np.zeros((6, 5, 3), np.uint8),
        "wrist": np.zeros((4, 4, 3), np.uint8),
        "state": np.array([level, 0], np.float32),
        "instruction": "go",
    }
    return {key: value for key, value in (values | changes).items() if value is not None}
