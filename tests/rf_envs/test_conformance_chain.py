"""Stable-Baselines3's `evaluate_policy` on a chain environment returns CALVIN's average length."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

ENV_ID = "rf_envs:rf/PlayTableChainD-v0"
# images are drawn at the resets alone: the expert does not look at them
ARGUMENTS = {"render_every": 10_000, "image_size": (64, 48)}

evaluation = pytest.importorskip("stable_baselines3.common.evaluation")


class Chains(gym.Wrapper):
    """Plays the given chains in turn, whatever `reset` is asked for, and remembers how far the present one is."""

    def __init__(self, env: gym.Env, chains: list[int]):
        super().__init__(env)
        self._turns = iter(chains)
        self.episode, self.completed = -1, 0

    def reset(self, *, seed=None, options=None):
        # SB3 resets once more after the last episode
        observation, info = self.env.reset(seed=seed, options={"chain": next(self._turns, 0)})
        self.episode, self.completed = self.episode + 1, info["completed"]
        return observation, info

    def step(self, action):
        result = self.env.step(action)
        self.completed = result[-1]["completed"]
        return result


class ExpertThatStops:
    """The expert in SB3's `predict` protocol; in each episode it stands still after some number of sub-tasks."""

    def __init__(self, env: Chains, stops: list[int]):
        self.env, self.stops = env, stops
        self._expert, self._episode = None, -1

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if self._episode != self.env.episode:
            self._expert, self._episode = self.env.unwrapped.expert(), self.env.episode
        going = self.env.completed < self.stops[self._episode]
        action = self._expert.act() if going else np.zeros(7, np.float32)
        return np.asarray(action)[None], None


def test_episode_rewards_are_the_lengths_of_the_chains():
    env = Chains(gym.make(ENV_ID, **ARGUMENTS), chains=[0, 1])
    model = ExpertThatStops(env, stops=[5, 2])
    lengths, steps = evaluation.evaluate_policy(model, env, n_eval_episodes=2, return_episode_rewards=True, warn=False)
    env.close()
    assert lengths == [5.0, 2.0]
    # the first ends with its fifth sub-task, the second when its third runs out of time
    assert steps[0] < 5 * 360 and steps[1] > 360


def test_the_mean_reward_is_five_where_all_is_solved():
    env = Chains(gym.make(ENV_ID, **ARGUMENTS), chains=[0])
    assert evaluation.evaluate_policy(ExpertThatStops(env, [5]), env, n_eval_episodes=1, warn=False) == (5.0, 0.0)
    env.close()
