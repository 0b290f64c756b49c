"""Every registered id of the embedded table passes Gymnasium's and Stable-Baselines3's checks without a word."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from conformance import IDS, KEYS, same
from gymnasium.utils.env_checker import check_env


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_has_no_complaint(env_id):
    env = gym.make(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines_checker_has_no_complaint(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_seeds_repeat_and_resets_without_one_differ(env_id):
    env = gym.make(env_id, image_size=(64, 48))
    first, _ = env.reset(seed=5)
    following = [env.reset()[0] for _ in range(2)]
    again, _ = env.reset(seed=5)
    assert set(first) == set(KEYS) and same(first, again)
    assert not same(first, following[0]) and not same(*following)
    # after the same seed, resets without one repeat too
    for observation in following:
        assert same(observation, env.reset()[0])
    env.close()


def test_all_ids_have_the_same_spaces():
    """So that scenes can be mixed in one vector environment and a policy can move between them."""
    envs = [gym.make(env_id) for env_id in IDS]
    for env in envs:
        assert env.observation_space == envs[0].observation_space
        assert env.action_space == envs[0].action_space
    low, high = envs[0].observation_space["robot_obs"].low, envs[0].observation_space["robot_obs"].high
    assert np.isfinite(low).all() and np.isfinite(high).all()
