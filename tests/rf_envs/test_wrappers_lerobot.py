"""What LeRobot's evaluation asks of a Gymnasium environment, which `LeRobotObservation` gives."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator
from gymnasium.utils.env_checker import check_env

from rf_envs import LeRobotObservation, TextInstruction
from rf_envs.language.instructions import EVALUATION
from rf_envs.table import TableEnv


def make(**arguments):
    return LeRobotObservation(TableEnv(simulator=FakeSimulator, image_size=(64, 48)), **arguments)


def test_the_layout(make_env):
    plain = make_env()
    env = LeRobotObservation(plain)
    observation, info = env.reset(seed=0)
    assert list(observation) == ["pixels", "agent_pos"]
    assert list(observation["pixels"]) == ["image", "image2"]
    assert observation["pixels"]["image"].shape == (64, 64, 3)
    assert observation["pixels"]["image2"].shape == (48, 48, 3)
    assert (observation["agent_pos"] == plain.robot_obs.astype(np.float32)).all()
    assert env.observation_space.contains(observation)
    observation, *_, info = env.step(np.ones(7, dtype=np.float32))
    assert env.observation_space.contains(observation) and info["is_success"] is False


def test_cameras_get_the_names_that_a_policy_knows():
    observation, _ = make(cameras=("top", "wrist")).reset(seed=0)
    assert observation["pixels"]["top"].shape == (64, 64, 3)
    assert observation["pixels"]["wrist"].shape == (48, 48, 3)


@pytest.mark.parametrize("env_id", ["rf/PlayTableD-v0", "rf/PlayTableChainD-v0"])
def test_gymnasiums_checker_has_no_complaint(env_id):
    env = LeRobotObservation(gym.make(f"rf_envs:{env_id}", simulator=FakeSimulator, image_size=(64, 48)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # that it is wrapped is the point
        warnings.filterwarnings("ignore", message=".*The environment .* is different from the unwrapped version.*")
        check_env(env)


def test_the_words_and_the_length_of_episodes_are_attributes():
    env = LeRobotObservation(gym.make("rf_envs:rf/PlayTableD-v0", simulator=FakeSimulator, max_steps=7))
    env.reset(seed=0, options={"task": "turn_on_led"})
    assert (env.task, env.task_description) == ("turn_on_led", EVALUATION["turn_on_led"])
    assert env._max_episode_steps == 7
    env.close()


@pytest.mark.parametrize("vector", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_vector_environments_as_lerobot_makes_them(vector):
    envs = vector([make, make], **({"context": "spawn"} if vector is gym.vector.AsyncVectorEnv else {}))
    # LeRobot marks a new rollout with an option for a wrapper of its own
    observation, info = envs.reset(seed=[3, 4], options={"lerobot_new_rollout": True})
    assert observation["pixels"]["image"].shape == (2, 64, 64, 3) and observation["agent_pos"].shape == (2, 15)
    assert envs.call("task_description") == tuple(info["instruction"])
    assert envs.call("task") == tuple(info["task"])
    assert envs.call("_max_episode_steps") == (360, 360)
    assert info["is_success"].tolist() == [False, False]
    envs.close()


def test_options_of_the_environment_are_passed_on_and_checked():
    env = make()
    assert env.reset(options={"task": "stack_block"})[1]["task"] == "stack_block"
    with pytest.raises(ValueError, match="Unknown reset option 'tsak'"):
        env.reset(options={"tsak": "stack_block"})


def test_it_is_made_again_from_its_spec():
    pytest.importorskip("pybullet")
    env = LeRobotObservation(gym.make("rf_envs:rf/PlayTableD-v0", image_size=(64, 48)), cameras=("top", "wrist"))
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space


def test_what_cannot_be_wrapped():
    with pytest.raises(ValueError, match="needs observations with rgb_static, rgb_gripper, robot_obs, got Box"):
        LeRobotObservation(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"got \['agent_pos', 'pixels'\]"):
        LeRobotObservation(make())
    with pytest.raises(ValueError, match="expected two different names"):
        make(cameras=("image", "image"))
    env = LeRobotObservation(TextInstruction(TableEnv(simulator=FakeSimulator, image_size=(64, 48))))
    assert "pixels" in env.reset(seed=0)[0]
