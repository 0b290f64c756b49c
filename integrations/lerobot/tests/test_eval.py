"""`lerobot-eval` runs our policy in our environments."""

from __future__ import annotations

import importlib.util
import json

import gymnasium as gym
import light_table
import numpy as np
import pytest
from lerobot.envs import make_env, make_env_config
from lerobot.scripts.lerobot_eval import main

import rf_envs.errors
from lerobot_policy_roboflamingo.convert import to_lerobot
from rf_agent.demos.readers import open_demos
from rf_agent.policy import RoboFlamingoPolicy as Agent

LIGHT, CHAIN = "light_table:rf/LightTable-v0", "light_table:rf/LightChain-v0"
WITH_PYBULLET = pytest.mark.skipif(importlib.util.find_spec("pybullet") is None, reason="PyBullet is not installed")


@pytest.fixture
def evaluate(command, tmp_path):
    """What `lerobot-eval` writes of an evaluation."""

    def run(folder, *options: str, episodes: int = 2, batch: int = 2) -> dict:
        output = tmp_path / "eval"
        command(
            main,
            f"--policy.path={folder}",
            "--env.type=rf_playtable",
            f"--output_dir={output}",
            f"--eval.n_episodes={episodes}",
            f"--eval.batch_size={batch}",
            "--policy.device=cpu",
            "--seed=3",
            *options,
        )
        return json.loads((output / "eval_info.json").read_text())

    return run


def test_single_tasks_one_by_one(evaluate, lerobot_folder, tmp_path):
    found = evaluate(lerobot_folder, f"--env.task={LIGHT}", '--env.tasks=["go_right", "go_left"]', episodes=3)
    assert found["overall"]["pc_success"] == 100.0 and found["overall"]["n_episodes"] == 6
    assert list(found["per_group"]) == ["go_right", "go_left"]
    assert found["per_group"]["go_left"]["avg_sum_reward"] == 1.0
    assert all((tmp_path / "eval" / "videos" / f"{task}_0").is_dir() for task in ("go_right", "go_left"))


@pytest.mark.parametrize("parallel", ["true", "false"])
def test_a_chain_gives_a_reward_for_each_of_its_tasks(evaluate, lerobot_folder, parallel):
    found = evaluate(lerobot_folder, f"--env.task={CHAIN}", f"--eval.use_async_envs={parallel}")
    assert found["overall"]["avg_sum_reward"] == 3.0 and found["overall"]["pc_success"] == 100.0
    assert list(found["per_group"]) == ["rf_playtable"]


def test_an_episode_that_runs_out_of_steps_is_no_success(evaluate, lerobot_folder):
    found = evaluate(lerobot_folder, f"--env.task={LIGHT}", '--env.options={"limit": 8}', episodes=1, batch=1)
    assert found["overall"]["pc_success"] == 0.0


def test_episodes_can_be_recorded(evaluate, lerobot_folder, tmp_path):
    """LeRobot writes what the policy did as a data set; ours read it."""
    sizes = '--env.options={"image_size": [64, 34]}'
    evaluate(lerobot_folder, f"--env.task={LIGHT}", sizes, "--eval.recording=true", episodes=1, batch=1)
    (record,) = (reader := open_demos(tmp_path / "eval" / "recordings" / "rf_playtable_0")).records
    assert record.actions.shape == (9, 7) and record.success and record.instruction in light_table.TASKS.values()
    assert reader.images("rgb_gripper", np.arange(9))[8].shape == (34, 34, 3)


def test_the_environment_says_what_the_policy_needs():
    config = make_env_config("rf_playtable", task=LIGHT, options={"image_size": [48, 36]})
    assert config.features["observation.images.rgb_gripper"].shape == (36, 36, 3)
    assert config.features_map["agent_pos"] == "observation.state"
    assert make_env_config("rf_playtable").gym_id == "rf_envs:rf/PlayTableD-v0"


def test_a_finished_environment_waits_for_the_others():
    config = make_env_config("rf_playtable", task=LIGHT)
    env = make_env(config, n_envs=1)["rf_playtable"][0]
    env.reset(seed=[0], options={"lerobot_new_rollout": True})
    steps = [env.step(env.action_space.sample()) for _ in range(12)]
    assert [bool(done[0]) for _, _, done, _, _ in steps].index(True) == 8
    table = env.envs[0].unwrapped
    assert table.steps == 9  # none of the later steps reached it
    env.reset(seed=[0], options={"lerobot_new_rollout": True})
    assert table.steps == 0


def test_pybullet_is_asked_for(monkeypatch):
    monkeypatch.setattr(rf_envs.errors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the embedded play table needs PyBullet, which is not installed: "):
        make_env(make_env_config("rf_playtable"), n_envs=1)


@WITH_PYBULLET
def test_an_episode_at_the_play_table_is_the_one_outside_lerobot(evaluate, tmp_path):
    """The bundled policy, the same seed and task: the same end after as many steps."""
    folder = to_lerobot("roboflamingo-tiny", tmp_path / "policy")
    options = ['--env.tasks=["open_drawer"]', '--env.options={"max_steps": 45}']
    found = evaluate(folder, *options, episodes=1, batch=1)
    env = gym.make("rf_envs:rf/PlayTableD-v0", tasks=["open_drawer"], max_steps=45)
    agent, total, done = Agent.from_pretrained("roboflamingo-tiny", "cpu"), 0.0, False
    observed, info = env.reset(seed=3)
    while not done:
        observed, reward, terminated, truncated, info = env.step(agent.act(observed))
        total, done = total + reward, terminated or truncated
    env.close()
    assert found["overall"]["avg_sum_reward"] == total == 1.0
    assert found["overall"]["pc_success"] == 100.0 * info["is_success"]


@WITH_PYBULLET
def test_a_chain_at_the_play_table(evaluate, tmp_path):
    folder = to_lerobot("roboflamingo-tiny", tmp_path / "policy")
    options = ["--env.task=rf/PlayTableChainD-v0", '--env.options={"max_steps": 3}']
    found = evaluate(folder, *options, episodes=1, batch=1)
    assert found["overall"]["n_episodes"] == 1 and found["overall"]["pc_success"] == 0.0
