"""Agents and environments of others."""

import os
import sys

import fake_agents
import fake_env
import gymnasium as gym
import numpy as np
import pytest
from policy_cases import make_policy

from rf_agent import cli
from rf_agent.base_policy import BasePolicy
from rf_agent.errors import UserError
from rf_agent.evaluation import agent_evaluation, custom, evaluate_agent
from rf_agent.evaluation.agents import fingerprint, pick_device
from rf_agent.evaluation.episode import chain_items, task_items
from rf_agent.evaluation.runner import evaluate
from rf_agent.policies import load_policy

TASK, CHAIN = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0"


def test_an_object_with_act_is_reset_for_every_episode():
    walker = fake_agents.Walker()
    results = evaluate_agent(walker, TASK, episodes_per_task=2, tasks=["go_left", "go_right"])
    assert walker.resets == 4
    assert results["tasks"] == {"go_left": {"success": 0, "total": 2}, "go_right": {"success": 2, "total": 2}}
    assert results["policy"] == "Walker" and results["return"]["mean"] == 0.5


def test_an_object_with_predict_gets_its_state_back():
    agent = fake_agents.Predictor()
    evaluate_agent(agent, TASK, episodes_per_task=2, tasks=["go_far"])
    assert agent.seen == [(step, step == 0, True) for _ in range(2) for step in range(20)]


def test_one_environment_is_open_at_a_time(monkeypatch):
    """As those are that draw with EGL; what asks which renderer there is must not stay."""
    monkeypatch.setattr(agent_evaluation, "with_renderer", lambda env_id, options, renderer: {**options, "length": 1})
    fake_env.Single.opened = 0
    evaluate_agent("random", "fake_env:fake/Single-v0", episodes_per_task=1, tasks=["go_left"])
    assert fake_env.Single.opened == 2


def test_python_says_which_weights_acted_and_how():
    results = evaluate_agent("roboflamingo-tiny-17", TASK, episodes_per_task=1, tasks=["go_left"])
    assert results["weights"] == fingerprint("roboflamingo-tiny-17")
    assert results["execution"]["n_action_steps"] == 3 and results["execution"]["dtype"] == "float32"
    assert results["requested"] == {"tasks": ["go_left"], "episodes_per_task": 1}


def test_python_and_command_play_the_same(tmp_path):
    results = evaluate_agent("random", CHAIN, chains=4, seed=3)
    episodes, _ = evaluate(CHAIN, "random", chain_items(4, seed=3), tmp_path, seed=3)
    assert [entry["completed"] for entry in results["sequences"]] == [e.completed for e in episodes]
    assert [entry["steps"] for entry in results["sequences"]] == [e.steps for e in episodes]


def threads_of(monkeypatch, play_it):
    """Torch's threads in each call of the policy, and afterwards, where it has three."""
    import torch

    seen, act = [], BasePolicy.act
    monkeypatch.setattr(
        BasePolicy, "act", lambda self, *given: seen.append(torch.get_num_threads()) or act(self, *given)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        play_it()
        return {*seen}, torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_a_policy_computes_with_one_thread_in_python_as_in_the_command(tmp_path, monkeypatch):
    """Other numbers of threads round sums differently."""
    policy = str(make_policy(seed=0).save_pretrained(tmp_path / "policy"))
    tasks = {"episodes_per_task": 1, "tasks": ["go_left"]}
    assert threads_of(monkeypatch, lambda: evaluate_agent(policy, TASK, **tasks)) == ({1}, 3)
    items = task_items(["go_left"], 1, seed=0)
    assert threads_of(monkeypatch, lambda: evaluate(TASK, policy, items, tmp_path / "run")) == ({1}, 3)
    own = load_policy(policy)
    assert threads_of(monkeypatch, lambda: evaluate_agent(own, TASK, **tasks)) == ({3}, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_factory_is_found_by_its_name(tmp_path, workers):
    items = task_items(["go_left", "go_right"], 2, seed=0)
    episodes, _ = evaluate(TASK, "fake_agents:Walker", items, tmp_path, workers=workers)
    assert [e.completed for e in episodes] == [0, 1, 0, 1]


def test_a_module_of_the_present_folder_is_found(tmp_path, monkeypatch, capfd):
    (tmp_path / "my_agents_here.py").write_text("from fake_agents import Walker\n\ndef make():\n    return Walker()\n")
    monkeypatch.chdir(tmp_path)
    words = ["--env", TASK, "--policy", "my_agents_here:make", "--tasks", "go_right", "--episodes-per-task", "2"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *words, "--workers", "1", "--timeout", "0", "--output", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and "2/2" in out, err


def test_an_environment_of_the_present_folder_is_found(tmp_path, monkeypatch, capfd):
    code = "import gymnasium\nfrom fake_env import FakeEnv\ngymnasium.register('Here-v0', FakeEnv)\n"
    (tmp_path / "my_envs_here.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    words = ["--env", "my_envs_here:Here-v0", "--policy", "fake_agents:Walker", "--episodes-per-task", "2"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *words, "--workers", "2", "--tasks", "go_right", "--output", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and "2/2" in out, err


def test_an_object_with_predict_is_the_agent_even_if_it_can_be_called():
    assert custom.make("fake_agents:network") is fake_agents.network


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module_here:make", "there is no module 'no_such_module_here' here or among the installed ones"),
        ("fake_agents:nothing", "has no attribute 'nothing': give module:factory"),
        ("fake_agents:NoAgent", r"NoAgent is no agent: give an object with act\(observation\), or with predict"),
    ],
)
def test_what_is_no_agent_is_named(name, said):
    with pytest.raises(UserError, match=said):
        custom.make(name)


def test_options_of_a_network_are_refused_for_others(tmp_path, capfd):
    words = ["--env", TASK, "--policy", "fake_agents:Walker", "--n-action-steps", "2"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *words, "--output", str(tmp_path / "run")])
    assert stop.value.code == 1 and "has no network of this project" in capfd.readouterr().err


@pytest.mark.parametrize("tells", [True, False])
def test_an_environment_without_tasks_counts_what_it_says(tmp_path, capfd, tells):
    words = ["--env", "fake_env:fake/Unnamed-v3", "--policy", "fake_agents:small_predictor", "--episodes-per-task", "4"]
    words += ["--env-options", f"tells={'true' if tells else 'false'}", "--workers", "1", "--timeout", "0"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *words, "--output", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert stop.value.code == 0, err
    assert "mean return 2.50 [2.50, 2.50]" in out
    assert ("Unnamed" in out and "4/4" in out) == tells
    results = evaluate_agent(
        fake_agents.small_predictor(), "fake_env:fake/Unnamed-v3", episodes_per_task=3, env_options={"tells": tells}
    )
    assert results["return"]["mean"] == 2.5
    assert results["tasks"] == ({"Unnamed": {"success": 3, "total": 3}} if tells else {})


def test_an_environment_that_renders_nothing_cannot_be_filmed(tmp_path, capfd):
    words = ["--env", "pointer_env:pointer/Plain-v0", "--policy", "random", "--output"]
    for command in (["rollout", *words, str(tmp_path / "a.mp4")], ["evaluate", *words, str(tmp_path / "run")]):
        more = ["--video-episodes", "1", "--episodes-per-task", "1"] if command[0] == "evaluate" else []
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, *more])
        assert stop.value.code == 1
        assert "pointer/Plain-v0 renders no image (rgb_array), so there is nothing to film" in capfd.readouterr().err


def test_tasks_may_be_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_env.FakeEnv, "_info", lambda self, solved: {"task": np.int64(7), "is_success": solved})
    results = evaluate_agent("random", TASK, episodes_per_task=2, tasks=["go_left"])
    assert results["tasks"] == {"7": {"success": 0, "total": 2}}


def test_a_device_for_an_agent_without_a_network_is_refused():
    assert pick_device("random", "auto") == "cpu"
    with pytest.raises(UserError, match="--policy fake_agents:Walker has no network of this project: leave --device"):
        pick_device("fake_agents:Walker", "cuda")


def test_an_environment_without_tasks_is_filmed(tmp_path, capfd):
    video = tmp_path / "v.mp4"
    words = ["--env", "fake_env:fake/Unnamed-v3", "--policy", "fake_agents:small_predictor", "--episodes", "2"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["rollout", *words, "--env-options", "tells=false", "--output", str(video)])
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and out.count("return 2.50, 5 steps") == 2 and video.exists(), err


class Shaped(fake_env.FakeEnv):
    """Pays at every step, and says in its last `info` alone how it went."""

    key = "success"

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 0.1, terminated, truncated, {"task": info["task"], self.key: info["is_success"]}

    def reset(self, **given):
        observation, info = super().reset(**given)
        return observation, {"task": info["task"], self.key: False}


class ShapedIs(Shaped):
    key = "is_success"


@pytest.mark.parametrize("kind", [Shaped, ShapedIs])
def test_a_shaped_reward_is_no_success(kind):
    name = f"fake/{kind.__name__}-v0"
    gym.register(name, kind)
    results = evaluate_agent(fake_agents.Walker(), name, episodes_per_task=3)
    first, *_ = results["tasks"].values()
    assert first == {"success": 0, "total": 3} and results["success_rate"]["1"]["rate"] < 1


@pytest.mark.parametrize(
    ("env", "given", "said"),
    [
        (TASK, {"chains": 1}, "plays single tasks: give episodes_per_task"),
        (CHAIN, {"episodes_per_task": 1}, "plays chains: give chains"),
        (CHAIN, {"chains": 1001}, "has 1000 chains"),
        (TASK, {"episodes_per_task": 0}, "episodes_per_task is 0"),
        (TASK, {"tasks": "go_left"}, "give a list of names"),
    ],
)
def test_what_the_command_refuses_is_refused_in_python(env, given, said):
    with pytest.raises(UserError, match=said):
        evaluate_agent("random", env, **given)


def test_a_task_that_is_named_twice_is_played_once():
    results = evaluate_agent("random", TASK, episodes_per_task=1, tasks=["go_left", "go_left"])
    assert results["tasks"]["go_left"]["total"] == 1


class Unpaid(fake_env.FakeEnv):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


def test_a_reward_that_is_no_number_is_refused():
    gym.register("fake/Unpaid-v0", Unpaid)
    with pytest.raises(UserError, match="step 0: the environment gave a reward that is not finite, nan"):
        evaluate_agent("random", "fake/Unpaid-v0", episodes_per_task=1)


def test_an_episode_without_end_is_told(monkeypatch):
    """The default of `gymnasium.register` has no limit; an evaluation would wait, and say nothing."""
    monkeypatch.setattr("rf_agent.evaluation.episode.LONG", 15)
    said = r"fake/Task-v0, go_far/0, has not ended after 15 steps: .* register it with max_episode_steps"
    with pytest.warns(UserWarning, match=said) as warnings:
        evaluate_agent(fake_agents.Walker(), TASK, episodes_per_task=1, tasks=["go_far"])
    assert len(warnings) == 1
