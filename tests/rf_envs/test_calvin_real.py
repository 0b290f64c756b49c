"""On the real calvin_env, where the environment variable CALVIN_ENV_ROOT names a clone of it."""

import multiprocessing
import os
import warnings

import gymnasium as gym
import numpy as np
import pytest
from conformance import Stir
from gymnasium.utils.env_checker import check_env

import rf_envs
from rf_envs.benchmark.chains import initial_state
from rf_envs.scenes import BUTTON_MAX, DRAWER_MAX, SCENES, SWITCH_MAX
from rf_envs.spaces import check_scene_obs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("CALVIN_ENV_ROOT"), reason="CALVIN_ENV_ROOT names no clone of calvin_env"),
]
TINY = {"renderer": "tiny"}
BLIND = {**TINY, "render_every": 10**6, "image_size": (8, 8)}


@pytest.mark.parametrize("env_id", ["rf/CalvinD-v0", "rf/CalvinChainD-v0"])
def test_the_checkers_have_no_complaint(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(env_id, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        checker.check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("scene", SCENES)
def test_the_scenes_have_our_numbers(scene):
    env = gym.make(f"rf/Calvin{scene}-v0", **BLIND)
    env.reset(seed=0, options={"task": "turn_on_lightbulb"})
    info, numbers = env.unwrapped.scene_info, SCENES[scene]
    assert tuple(info["movable_objects"]) == numbers.block_names
    for block, pose in zip(info["movable_objects"].values(), env.unwrapped.scene_obs[6:].reshape(3, 6), strict=True):
        assert np.array_equal(block["current_pos"], pose[:3])
    assert set(info["fixed_objects"]["table"]["links"]) >= {"base_link", "plank_link", "drawer_link"}
    client, table = env.unwrapped._simulator._env.p, info["fixed_objects"]["table"]
    limits = {}
    for index in range(client.getNumJoints(table["uid"])):
        _, name, *rest = client.getJointInfo(table["uid"], index)
        limits[name.decode()] = rest[7]
    expected = {"base__slide": numbers.slide_max, "base__drawer": DRAWER_MAX, "base__switch": SWITCH_MAX}
    assert {name: limits[name] for name in expected} == pytest.approx(expected)
    env.close()


def test_a_chain_begins_in_calvins_state():
    env = gym.make("rf/CalvinChainD-v0", **BLIND)
    for index in (0, 1, 2):
        env.reset(options={"chain": index})
        robot_obs, scene_obs = initial_state(rf_envs.chains()[index][0])
        # the blocks come to rest
        assert np.allclose(env.unwrapped.scene_obs, scene_obs, atol=5e-3)
        assert np.allclose(env.unwrapped.robot_obs, robot_obs, atol=2e-3)
    env.close()


def observations(env_id):
    """The bytes of the observations of two episodes that stir the blocks."""
    env = gym.make(f"rf_envs:{env_id}", max_steps=10**6, **TINY)
    seen = []
    for seed in (5, 5):
        hand = Stir(seed)
        observation, _ = env.reset(seed=seed)
        for _ in range(40):
            seen.append(b"".join(observation[key].tobytes() for key in sorted(observation)))
            observation, *_ = env.step(hand.act(observation))
    env.close()
    return seen


def test_resets_and_processes_give_the_same_bits():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply_async(observations, ("rf/CalvinD-v0",))
        here = observations("rf/CalvinD-v0")
        assert here == elsewhere.get(timeout=600)
    assert here[:40] == here[40:] and here[0] != here[39]


def test_a_state_with_the_button_pressed_can_be_given_back():
    """Its spring gives way: the robot presses it further than it goes."""
    env = gym.make("rf/CalvinD-v0", **BLIND)
    env.reset(seed=0, options={"task": "turn_on_led"})
    expert, done = rf_envs.Expert(env), False
    while not done:
        *_, terminated, truncated, _ = env.step(expert.act())
        done = terminated or truncated
    deepest = 0.0
    for _ in range(20):
        env.step(np.array([0, 0, -0.5, 0, 0, 0, -1], np.float32))
        scene_obs = env.unwrapped.scene_obs
        deepest = max(deepest, scene_obs[2])
        check_scene_obs(scene_obs, SCENES["D"])
    assert deepest > BUTTON_MAX + 0.002
    env.reset(options={"scene_obs": env.unwrapped.scene_obs, "robot_obs": env.unwrapped.robot_obs})
    env.close()


@pytest.mark.parametrize(
    "task",
    ["turn_on_led", "turn_off_led", "turn_on_lightbulb", "open_drawer", "lift_red_block_table", "push_blue_block_left"],
)
def test_the_expert_works_here_too(task):
    env = gym.make("rf/CalvinD-v0", **BLIND)
    solved = 0
    for seed in range(3):
        env.reset(seed=seed, options={"task": task})
        expert = rf_envs.Expert(env)
        terminated = truncated = False
        while not (terminated or truncated):
            *_, terminated, truncated, info = env.step(expert.act())
        solved += info["is_success"]
    assert solved >= 2
    env.close()
