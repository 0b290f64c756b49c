"""The registered environments on the embedded play table, as their users meet them."""

import warnings

import gymnasium as gym
import numpy as np
import pytest

import rf_envs
from rf_envs.benchmark.chains import initial_state
from rf_envs.spaces import decode_instruction

IDS = ("rf/PlayTableD-v0", "rf/PlayTableChainD-v0")
SMALL = {"image_size": (64, 48)}


def test_default_observations_are_those_of_calvin():
    env = gym.make("rf_envs:rf/PlayTableD-v0")
    observation, _ = env.reset(seed=0)
    assert observation["rgb_static"].shape == (200, 200, 3)
    assert observation["rgb_gripper"].shape == (84, 84, 3)
    assert env.metadata["render_fps"] == 30
    env.close()


def test_a_mistyped_first_reset_spoils_nothing():
    env = gym.make(IDS[0], **SMALL)
    with pytest.raises(ValueError, match="open_drawr"):
        env.reset(options={"task": "open_drawr"})
    env.reset(options={"task": "open_drawer"})
    env.step(env.action_space.sample())
    env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments_carry_instructions_and_infos(mode):
    envs = gym.make_vec(
        IDS[0],
        2,
        vectorization_mode=mode,
        vector_kwargs={"context": "spawn"} if mode == "async" else None,
        **SMALL,
    )
    observation, info = envs.reset(seed=3, options={"task": "open_drawer"})
    for _ in range(2):
        for index in range(2):
            assert decode_instruction(observation["instruction"][index]) == info["instruction"][index]
        observation, reward, *_, info = envs.step(np.zeros((2, 7), dtype=np.float32))
    assert info["task"].tolist() == ["open_drawer"] * 2 and reward.tolist() == [0.0, 0.0]
    assert info["is_success"].tolist() == [False, False]
    envs.close()


def test_a_chain_begins_in_calvins_state():
    env = gym.make(IDS[1], **SMALL)
    for index in (0, 1, 2):
        env.reset(options={"chain": index})
        robot_obs, scene_obs = initial_state(rf_envs.chains()[index][0])
        # the blocks come to rest
        assert np.allclose(env.unwrapped.scene_obs, scene_obs, atol=3e-3)
        assert np.allclose(env.unwrapped.robot_obs, robot_obs, atol=2e-3)
        for block in env.unwrapped.scene_info["movable_objects"].values():
            assert block["contacts"]
    env.close()


def test_rendering():
    env = gym.make(IDS[0], render_mode="rgb_array", render_size=120, **SMALL)
    env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (120, 120, 3) and frame.std() > 10
    env.close()


def test_a_window_without_a_display_stays_silent(monkeypatch, caplog):
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    env = gym.make(IDS[0], render_mode="human", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.reset(seed=0)
        env.step(np.zeros(7, dtype=np.float32))
        assert env.render() is None
    env.close()
    assert [record.message for record in caplog.records if "no display" in record.message]


def test_text_instruction():
    env = rf_envs.TextInstruction(gym.make(IDS[0], **SMALL))
    observation, info = env.reset(seed=0)
    assert observation["instruction"] == info["instruction"]
    assert env.observation_space.contains(observation)
    assert isinstance(env.observation_space["instruction"], gym.spaces.Text)
    observation, _ = env.reset(options={"task": "open_drawer", "instruction": "öffne die Schublade!"})
    assert observation["instruction"] == "öffne die Schublade!"
    assert env.observation_space.contains(observation)
    for typed in ("open the robot’s drawer – slowly …", "open\nthe drawer"):
        observation, _ = env.reset(options={"task": "open_drawer", "instruction": typed})
        assert observation["instruction"] == typed and env.observation_space.contains(observation)
    with pytest.raises(ValueError, match="has '打', which is none of the characters .* charset="):
        env.reset(options={"task": "open_drawer", "instruction": "打开抽屉"})
    env.close()


def test_text_instruction_needs_an_instruction():
    with pytest.raises(ValueError, match="needs observations with an 'instruction', got Box"):
        rf_envs.TextInstruction(gym.make("CartPole-v1"))


def test_the_expert_is_reached_through_the_environment():
    env = gym.make(IDS[0], **SMALL)
    env.reset(seed=0, options={"task": "open_drawer"})
    for expert in (env.unwrapped.expert(), rf_envs.Expert(env)):
        assert env.action_space.contains(expert.act())
    env.close()


def test_cameras_can_be_black():
    env = gym.make("rf_envs:rf/PlayTableD-v0", image_size=(32, 16), black_cameras=["rgb_gripper"])
    for observation in (env.reset(seed=0)[0], env.step(env.action_space.sample())[0]):
        assert not observation["rgb_gripper"].any() and observation["rgb_static"].any()
        assert env.observation_space.contains(observation)
    env.close()
