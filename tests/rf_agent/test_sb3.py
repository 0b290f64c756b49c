"""The policy in Stable-Baselines3's own evaluation, on the real environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from policy_cases import make_policy
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from rf_agent import RoboFlamingoPolicy
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, chain_items, divide_episodes
from rf_agent.evaluation.metrics import average_length
from rf_agent.evaluation.runner import evaluate

STEPS = 5


def make(seed: int, env_id: str = "rf/PlayTableD-v0"):
    def build() -> gym.Env:
        env = gym.make(f"rf_envs:{env_id}", max_steps=STEPS, tasks=("open_drawer", "turn_on_led"))
        env.reset(seed=seed)
        return env

    return build


def test_evaluate_policy_runs_several_environments():
    policy = make_policy()
    env = VecMonitor(DummyVecEnv([make(0), make(1)]))
    rewards, lengths = evaluate_policy(policy, env, n_eval_episodes=4, return_episode_rewards=True)
    env.close()
    assert lengths == [STEPS] * 4
    assert rewards == [0.0] * 4  # nothing is solved in five steps


class ExpertAsPolicy:
    """What the expert does, in SB3's `predict` protocol, to see that solved episodes are counted."""

    def __init__(self, env: gym.Env) -> None:
        self.expert = env.unwrapped.expert()

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.asarray(self.expert.act())[None], None


def test_the_mean_reward_is_the_success_rate():
    env = gym.make("rf_envs:rf/PlayTableD-v0", render_every=1000, tasks=("open_drawer", "turn_on_led"))
    env.reset(seed=0)
    mean, deviation = evaluate_policy(ExpertAsPolicy(env), env, n_eval_episodes=3, warn=False)
    env.close()
    assert (mean, deviation) == (1.0, 0.0)


@pytest.mark.slow
def test_the_mean_reward_is_the_runners_average_length(tmp_path):
    """On the same chains, for one environment and for several."""
    chain, items = "rf/PlayTableChainD-v0", chain_items(6, seed=0)[3:]
    policy = RoboFlamingoPolicy.from_pretrained("roboflamingo-tiny-17")
    options = {"max_steps": 90, "render_every": policy.config.head.replan_every}
    episodes, _ = evaluate(chain, "roboflamingo-tiny-17", items, tmp_path, env_options=options)
    expected = {episode.key: episode.completed for episode in episodes}
    assert len(set(expected.values())) > 1
    for n_envs in (1, 3):
        found = {}

        def record(local, _, found=found):
            if local["done"]:
                found[local["info"]["episode_key"]] = local["info"]["completed"]

        parts = divide_episodes(items, n_envs)
        envs = DummyVecEnv(
            [lambda p=p: Monitor(BenchmarkEpisodes(gym.make(f"rf_envs:{chain}", **options), p)) for p in parts]
        )
        mean, _ = evaluate_policy(policy, envs, n_eval_episodes=len(items), callback=record)
        envs.close()
        assert found == expected and mean == average_length(episodes)["mean"]


@pytest.mark.parametrize("deterministic", [True, False])
def test_state_is_handed_back_by_the_caller(deterministic):
    """Two runs of `predict` from the same state agree: nothing is kept in the policy."""
    policy = make_policy()
    env = gym.make("rf_envs:rf/PlayTableD-v0")
    observation, _ = env.reset(seed=0)
    batch = {key: value[None] for key, value in observation.items()}
    first, state = policy.predict(batch, None, np.ones(1, bool), deterministic)
    again, _ = policy.predict(batch, None, np.ones(1, bool), deterministic)
    np.testing.assert_array_equal(first, again)
    one, _ = policy.predict(batch, state, np.zeros(1, bool), deterministic)
    two, _ = policy.predict(batch, state, np.zeros(1, bool), deterministic)
    np.testing.assert_array_equal(one, two)
    env.close()
