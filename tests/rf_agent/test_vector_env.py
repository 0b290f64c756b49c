"""The policy in Gymnasium's vector environments: every episode as if it were played alone."""

import fake_env  # noqa: F401 (registers the environments)
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from policy_cases import make_policy

from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, chain_items, divide_episodes
from rf_agent.evaluation.custom import ActAgent
from rf_agent.evaluation.episode import play

ITEMS = chain_items(14, seed=0)[::2]  # all begin with the same instruction: its change does not restart history
STEPS = 7  # odd, so that an episode ends in the middle of what the policy carries out


class Spied(gym.Wrapper):
    """Keeps the actions of each chain."""

    def __init__(self, env: gym.Env, seen: dict) -> None:
        super().__init__(env)
        self.seen = seen

    def reset(self, **arguments):
        observation, info = self.env.reset(**arguments)
        self.actions = self.seen.setdefault(info["chain"], [])
        return observation, info

    def step(self, action):
        self.actions.append(np.array(action))
        return self.env.step(action)


def make(seen):
    return Spied(gym.make("fake/Chain-v0", disable_env_checker=True, max_steps=STEPS), seen)


@pytest.fixture(scope="module")
def alone():
    """The actions of each chain in our runner."""
    seen = {}
    env, agent = make(seen), ActAgent(make_policy())
    for item in ITEMS:
        play(env, agent, item)
    assert len({np.concatenate(actions).tobytes() for actions in seen.values()}) == len(ITEMS)  # they differ
    return seen


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("protocol", ["predict", "act"])
def test_history_restarts_with_each_episode(alone, mode, protocol):
    seen, policy, parts = {}, make_policy(), divide_episodes(ITEMS, 3)
    envs = SyncVectorEnv([lambda part=part: BenchmarkEpisodes(make(seen), part) for part in parts], autoreset_mode=mode)
    envs = RecordEpisodeStatistics(envs)
    observations, _ = envs.reset(seed=0)
    state, starts, ended = None, np.ones(3, bool), np.zeros(3, bool)
    while envs.episode_count < 3 * 3:  # all have ended then, and some have begun anew
        if protocol == "predict":
            actions, state = policy.predict(observations, state, starts)
        else:
            policy.reset(np.flatnonzero(starts))
            actions = policy.act(observations)
        observations, _, terminated, truncated, _ = envs.step(actions)
        ended_before, ended = ended, terminated | truncated
        starts = ended if mode is AutoresetMode.SAME_STEP else ended_before
    assert seen.keys() == alone.keys()
    for chain, actions in alone.items():
        np.testing.assert_allclose(seen[chain][: len(actions)], actions, atol=1e-6, err_msg=f"chain {chain}")
