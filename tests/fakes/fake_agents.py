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


class Unwilling(Walker):
    """Its episodes do not begin."""

    def reset(self):
        raise RuntimeError("I would rather not")


class Broken(Walker):
    """Gives what is no action, from the third step on."""

    answer = np.full(7, np.nan, np.float32)

    def act(self, observation):
        return super().act(observation) if self.acts < 2 else self.answer


class Refusing(Broken):
    """Says itself that it has no action, as policies of this project do."""

    def act(self, observation):
        if self.acts < 2:
            return super().act(observation)
        raise ValueError("the policy computes actions that are not finite")


class WrongShape(Broken):
    answer = np.zeros((1, 7), np.float32)


def small_predictor():
    return Predictor(2)


class NoAgent:
    pass


class Tiring:
    """Walks where the instruction says, at two speeds in turns, and back after 28 steps of an episode.

    So the result depends on the step with which its memory restarts.
    """

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        texts = np.atleast_2d(observation["instruction"])
        steps = np.zeros(len(texts), int) if state is None else np.where(episode_start, 0, state + 1)
        signs = np.array([-1 if text.tobytes().startswith(b"go left") else 1 for text in texts])
        actions = np.zeros((len(texts), 7), np.float32)
        actions[:, 0] = signs * np.where(steps < 28, 1, -1) * np.where(steps % 2, 0.8, 1)
        return (actions if observation["instruction"].ndim == 2 else actions[0]), steps


class Network(Predictor):
    """Like policies of Stable-Baselines3, it can be called, but not without an argument."""

    def __call__(self, x):
        return x


network = Network()
