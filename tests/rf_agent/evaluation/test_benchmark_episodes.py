"""The benchmark's episodes in other hands: Stable-Baselines3 and Gymnasium's vector environments."""

from collections import Counter

import fake_agents
import fake_env  # noqa: F401 (registers the environments)
import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from rf_agent.evaluation import evaluate_agent
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, chain_items, divide_episodes, task_items
from rf_agent.evaluation.runner import evaluate

TASK, CHAIN = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0"
CHAINS, SEED = 8, 3


def make(part, env_id=CHAIN, **options):
    def build():
        return Monitor(BenchmarkEpisodes(gym.make(env_id, disable_env_checker=True, **options), part))

    return build


def vec_env(items, n_envs, kind=DummyVecEnv, **options):
    return kind([make(part, **options) for part in divide_episodes(items, n_envs)])


def returns(agent, envs, episodes):
    """Return and steps of each episode that `evaluate_policy` counts, by key; and what it returns."""
    found = {}

    def note(local, _):
        if local["done"]:
            assert local["info"]["episode_key"] not in found
            found[local["info"]["episode_key"]] = local["info"]["episode"]["r"], local["info"]["episode"]["l"]

    result = evaluate_policy(agent, envs, n_eval_episodes=episodes, callback=note)
    return found, result


def of_the_runner(agent, env_id=CHAIN, **options):
    results = evaluate_agent(agent, env_id, chains=CHAINS, seed=SEED, **options)
    played = {f"chain/{entry['chain']}": (entry["completed"], entry["steps"]) for entry in results["sequences"]}
    return played, results["average_length"]["mean"]


@pytest.mark.parametrize("n_envs", [1, 3, CHAINS])
def test_evaluate_policy_gives_the_runners_numbers(n_envs):
    """Of every chain, with an agent whose memory must restart with each of them."""
    expected, average_length = of_the_runner(fake_agents.Tiring())
    assert len({completed for completed, _ in expected.values()}) > 1  # the chains differ
    envs = vec_env(chain_items(CHAINS, SEED), n_envs)
    for _ in range(2):  # a second evaluation plays the same episodes, wherever the first one left the environments
        found, (mean, _) = returns(fake_agents.Tiring(), envs, CHAINS)
        assert found == expected and mean == average_length


def test_environments_in_processes_of_their_own_give_them_too(tmp_path):
    episodes, _ = evaluate(CHAIN, "fake_agents:Tiring", chain_items(CHAINS, SEED), tmp_path, seed=SEED)
    envs = vec_env(chain_items(CHAINS, SEED), 3, SubprocVecEnv)
    found, _ = returns(fake_agents.Tiring(), envs, CHAINS)
    envs.close()
    assert found == {episode.key: (episode.completed, episode.steps) for episode in episodes}


def test_a_single_environment_needs_no_vector(tmp_path):
    items = task_items(["go_left", "go_right", "go_far"], 2, SEED)
    episodes, _ = evaluate(TASK, "fake_agents:Walker", items, tmp_path, seed=SEED)
    rewards, lengths = evaluate_policy(WalkerInBatches(), make(items, TASK)(), len(items), return_episode_rewards=True)
    assert rewards == [episode.completed for episode in episodes]
    assert lengths == [episode.steps for episode in episodes]


class WalkerInBatches:
    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return fake_agents.Walker().act(observation)[None], None


def keys(env, episodes):
    """The keys of so many episodes, played to their end."""
    found = []
    for _ in range(episodes):
        _, info = env.reset()
        found.append(info["episode_key"])
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(np.ones(7, np.float32))
            over = terminated or truncated
            assert info["episode_key"] == found[-1]
    return found


def test_after_the_last_episode_comes_the_first():
    env = make(chain_items(2, SEED))()
    assert keys(env, 5) == ["chain/0", "chain/1", "chain/0", "chain/1", "chain/0"]


def test_a_reset_within_an_episode_begins_anew_and_says_so():
    env = make(chain_items(3, SEED))()
    keys(env, 1)
    env.reset()
    env.step(np.ones(7, np.float32))
    with pytest.warns(UserWarning, match="chain/1 was reset before its end.* begins again with chain/0, after 1 of 3"):
        assert env.reset()[1]["episode_key"] == "chain/0"


def test_a_reset_after_the_last_episode_is_nothing_to_warn_of(recwarn):
    env = make(chain_items(2, SEED))()
    env.reset()  # as many do before they hand the environment to someone else
    keys(env, 2)
    env.reset()  # a vector environment does this by itself
    env.step(np.ones(7, np.float32))
    assert env.reset()[1]["episode_key"] == "chain/0"
    assert not recwarn.list


def test_a_reset_with_a_seed_begins_anew():
    env = make(chain_items(3, SEED))()
    keys(env, 2)
    first = env.reset(seed=5)
    assert first[1]["episode_key"] == "chain/0"
    np.testing.assert_equal(env.reset(seed=6), first)


def test_the_environments_own_options_are_refused():
    with pytest.raises(ValueError, match="reset got the options {'chain': 3}, but BenchmarkEpisodes gives each"):
        make(chain_items(3, SEED))().reset(options={"chain": 3})


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="was given no episodes; give chain_items"):
        make([])()


@pytest.mark.parametrize("n_envs", [1, 2, 3, 7, 10])
def test_every_environment_gets_as_many_as_evaluate_policy_counts(n_envs):
    items = chain_items(10, SEED)
    parts = divide_episodes(items, n_envs)
    assert [len(part) for part in parts] == [(10 + index) // n_envs for index in range(n_envs)]
    assert Counter(item.key for part in parts for item in part) == Counter(item.key for item in items)


@pytest.mark.parametrize("n_envs", [0, 11])
def test_environments_without_episodes_are_refused(n_envs):
    with pytest.raises(ValueError, match=f"10 episodes cannot be divided over {n_envs} environments; give 1 to 10"):
        divide_episodes(chain_items(10, SEED), n_envs)
