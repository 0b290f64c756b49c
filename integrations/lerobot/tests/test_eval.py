"""`lerobot-eval` runs our policy in our environments."""

from __future__ import annotations

import importlib.util
import json

import gymnasium as gym
import light_table
import numpy as np
import pytest
from lerobot.envs import close_envs, make_env, make_env_config
from lerobot.scripts.lerobot_eval import main

import rf_envs.errors
from lerobot_policy_roboflamingo.convert import to_lerobot
from lerobot_policy_roboflamingo.environments import PlayTableEnvConfig
from rf_agent.demos.readers import open_demos
from rf_agent.errors import ConfigError, UserError
from rf_agent.policy import RoboFlamingoPolicy as Agent


class Closing:
    """A vector environment that says what it was asked."""

    closed = False

    def reset(self, **options):
        return "reset"

    def call(self, name):
        return "call"

    def close(self):
        self.closed = True


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


def outside(agent, env, seed, limit=None):
    """What an episode outside LeRobot gives: the sum of its rewards, its success and its length."""
    agent.reset()
    observed, info = env.reset(seed=seed)
    rewards, done = [], False
    while not done and len(rewards) != limit:
        observed, reward, terminated, truncated, info = env.step(agent.act(observed))
        rewards.append(reward)
        done = terminated or truncated
    return sum(rewards), info["is_success"], len(rewards)


@pytest.mark.parametrize("parallel", ["true", "false"])
def test_episodes_of_different_lengths_are_those_outside_lerobot(evaluate, agent_folder, lerobot_folder, parallel):
    """Every reward of a batch whose environments end one after the other, or run out of steps."""
    options = [f"--env.task={LIGHT}", '--env.options={"limit": 10, "rewards_place": true}', "--seed=12"]
    found = evaluate(lerobot_folder, *options, f"--eval.use_async_envs={parallel}", episodes=4)
    agent, env = Agent.from_pretrained(agent_folder, "cpu"), light_table.LightTable(rewards_place=True)
    sums, successes, lengths = zip(*(outside(agent, env, seed, limit=10) for seed in range(12, 16)), strict=True)
    metrics = found["per_task"][0]["metrics"]
    assert metrics["sum_rewards"] == pytest.approx(sums, abs=1e-5)
    assert metrics["successes"] == list(successes) == [True, False, True, True]
    assert lengths == (6, 10, 7, 6)


def test_only_the_tasks_that_are_measured_have_environments(monkeypatch):
    made = []
    monkeypatch.setattr(PlayTableEnvConfig, "_vector", lambda self, *_, **options: made.append(options) or Closing())
    vectors = make_env(make_env_config("rf_playtable", task=LIGHT, tasks=list(light_table.TASKS)), n_envs=2)
    first, second = (vectors[task][0] for task in light_table.TASKS)
    assert not made and first.num_envs == 2
    assert first.reset(seed=[0, 1]) == "reset"
    assert made == [{"tasks": ["go_left"]}]
    vector = first.made
    first.close()
    assert vector.closed and second.call("task") == "call" and made[1:] == [{"tasks": ["go_right"]}]
    close_envs(vectors)
    assert second.made is not vector


@WITH_PYBULLET
def test_chains_have_no_single_tasks():
    config = make_env_config("rf_playtable", task="rf/PlayTableChainD-v0", tasks=["open_drawer"])
    with pytest.raises(ConfigError, match=r"env.tasks is \['open_drawer'\], but rf/PlayTableChainD-v0 plays chains"):
        make_env(config, n_envs=1)


def test_options_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="env.options has image_size 128: give two"):
        make_env_config("rf_playtable", options={"image_size": 128})
    with pytest.raises(UserError, match="env.options has 'tasks': give --env.tasks instead"):
        make_env_config("rf_playtable", options={"tasks": ["open_drawer"]})


@WITH_PYBULLET
def test_an_unknown_task_is_named_before_the_first_is_measured():
    with pytest.raises(ValueError, match="open_drawr"):
        make_env(make_env_config("rf_playtable", tasks=["open_drawer", "open_drawr"]), n_envs=1)


def test_tasks_at_the_same_time_are_refused():
    with pytest.raises(UserError, match="max_parallel_tasks is 2, but tasks at the same time would share the one hist"):
        make_env_config("rf_playtable", max_parallel_tasks=2)


def test_a_chain_gives_a_reward_for_each_of_its_tasks(evaluate, lerobot_folder):
    found = evaluate(lerobot_folder, f"--env.task={CHAIN}", "--eval.use_async_envs=false")
    assert found["overall"]["avg_sum_reward"] == 3.0 and found["overall"]["pc_success"] == 100.0
    assert list(found["per_group"]) == ["rf_playtable"]


def test_an_episode_that_runs_out_of_steps_is_no_success(evaluate, lerobot_folder):
    options = [f"--env.task={LIGHT}", '--env.options={"limit": 8, "length": 9}']
    found = evaluate(lerobot_folder, *options, episodes=1, batch=1)
    assert found["overall"]["pc_success"] == 0.0


def test_episodes_can_be_recorded(evaluate, lerobot_folder, tmp_path):
    """LeRobot writes what the policy did as a data set; ours read it."""
    options = '--env.options={"image_size": [64, 34], "length": 9}'
    evaluate(lerobot_folder, f"--env.task={LIGHT}", options, "--eval.recording=true", episodes=1, batch=1)
    (record,) = (reader := open_demos(tmp_path / "eval" / "recordings" / "rf_playtable_0")).records
    assert record.actions.shape == (9, 7) and record.success and record.instruction in light_table.TASKS.values()
    assert reader.images("rgb_gripper", np.arange(9))[8].shape == (34, 34, 3)


def test_the_environment_says_what_the_policy_needs():
    config = make_env_config("rf_playtable", task=LIGHT, options={"image_size": [48, 36]})
    assert config.features["observation.images.rgb_gripper"].shape == (36, 36, 3)
    assert config.features_map["agent_pos"] == "observation.state"
    assert make_env_config("rf_playtable").gym_id == "rf_envs:rf/PlayTableD-v0"


def test_a_finished_environment_waits_for_the_others():
    config = make_env_config("rf_playtable", task=LIGHT, options={"length": 9})
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
    total, success, _ = outside(Agent.from_pretrained("roboflamingo-tiny", "cpu"), env, seed=3)
    env.close()
    assert found["overall"]["avg_sum_reward"] == total == 1.0
    assert found["overall"]["pc_success"] == 100.0 * success


@WITH_PYBULLET
def test_chains_at_the_play_table_are_those_outside_lerobot(evaluate, tmp_path):
    """Of two chains in a batch, one goes on when the other has failed at its first task."""
    folder = to_lerobot("roboflamingo-tiny", tmp_path / "policy")
    options = {"max_steps": 60, "render_every": 3}
    chains = ["--env.task=rf/PlayTableChainD-v0", f"--env.options={json.dumps(options)}", "--seed=12"]
    found = evaluate(folder, *chains, "--eval.use_async_envs=false")["per_task"][0]["metrics"]
    agent, env = Agent.from_pretrained("roboflamingo-tiny", "cpu"), gym.make("rf_envs:rf/PlayTableChainD-v0", **options)
    first, second = (outside(agent, env, seed) for seed in (12, 13))
    env.close()
    assert found["sum_rewards"] == [first[0], second[0]] == [2.0, 0.0]
    assert found["successes"] == [first[1], second[1]] == [False, False]
    assert first[2] > second[2] == 60
