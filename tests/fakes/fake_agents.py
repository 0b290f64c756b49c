"""Agents of other projects: `--policy fake_agents:NAME` finds them by name, in worker processes, too."""

from __future__ import annotations

import numpy as np


class Walker:
    """Goes right. It has `act` and `reset`, and counts what it was asked."""

    def __init__(self):
        self.resets, self.acts = 0, 0

    def reset(self):
        self.resets += 1

    def act(self, observation):
        self.acts += 1
        return np.array([1, 0, 0, 0, 0, 0, 1], np.float32)


class Predictor:
    """Stable-Baselines3's protocol: its state counts the steps of the episode."""

    def __init__(self, size: int = 7):
        self.size, self.seen = size, []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        state = 0 if state is None or episode_start[0] else state + 1
        self.seen.append((state, bool(episode_start[0]), deterministic))
        return np.full(self.size, 0.5, np.float32), state


class Broken(Walker):
    """Gives what is no action, from the third step on."""

    answer = np.full(7, np.nan, np.float32)

    def act(self, observation):
        return super().act(observation) if self.acts < 2 else self.answer


class WrongShape(Broken):
    answer = np.zeros((1, 7), np.float32)


def small_predictor():
    return Predictor(2)


class NoAgent:
    pass
