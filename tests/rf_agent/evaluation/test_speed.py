"""Speeds: environments take turns, ratios are the first against the others, and a renderer reaches who has a choice."""

from __future__ import annotations

import json
import time

import fake_env
import gymnasium as gym
import numpy as np
import pytest

from rf_agent import cli
from rf_agent.errors import UserError
from rf_agent.evaluation import speed

TURNS: list[str] = []


class Timed(fake_env.FakeEnv):
    """Takes a given time for a step."""

    renderer = "paint"

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def reset(self, **arguments):
        TURNS.append(self.spec.id)
        return super().reset(**arguments)

    def step(self, action):
        time.sleep(self.seconds)
        return super().step(action)


class WithChoice(Timed):
    def __init__(self, seconds: float, renderer: str = "auto"):
        super().__init__(seconds)
        self.renderer = renderer


gym.register("fake/Fast-v0", Timed, kwargs={"seconds": 0.002})
gym.register("fake/Slow-v0", WithChoice, kwargs={"seconds": 0.02})


class Telling(Timed):
    """Says its instruction in `info` alone; an episode is three steps."""

    def __init__(self):
        super().__init__(seconds=0.0)
        self.max_steps = 3

    def _observe(self):
        return {key: value for key, value in super()._observe().items() if key != "instruction"}


gym.register("fake/Telling-v0", Telling)


def test_a_policy_hears_what_stands_in_info_and_that_an_episode_is_over():
    from types import SimpleNamespace

    said = []

    class Policy:
        config = SimpleNamespace(head=SimpleNamespace(replan_every=1))

        def reset(self):
            said.append("reset")

        def act(self, observation):
            said.append(observation["instruction"])
            return np.zeros(7, np.float32)

    speed.policy("fake/Telling-v0", Policy(), repeats=1, steps=7)
    assert said[-10:] == ["reset", *["go left"] * 3, "reset", *["go left"] * 3, "reset", "go left"]


def test_actions_that_are_no_box_are_refused():
    with pytest.raises(UserError, match=r"actions of CartPole-v1 are Discrete\(2\): give an environment with a Box"):
        speed.simulators(("CartPole-v1",), repeats=1, steps=5)


def test_environments_take_turns_and_are_compared():
    TURNS.clear()
    speeds, ratios = speed.simulators(("fake/Fast-v0", "fake/Slow-v0"), repeats=3, steps=5)
    assert TURNS == ["fake/Fast-v0", "fake/Slow-v0"] * 4  # the first turn warms up
    fast, slow = speeds
    assert (fast.env, slow.env) == ("fake/Fast-v0", "fake/Slow-v0")
    assert fast.low <= fast.median <= fast.high < 500 and slow.high < 50
    assert (fast.name, slow.name) == ("simulator, both cameras (paint)", "simulator, both cameras (auto)")
    (ratio,) = ratios
    assert (ratio.name, ratio.env, ratio.other) == ("both cameras", "fake/Fast-v0", "fake/Slow-v0")
    assert ratio.low <= ratio.median <= ratio.high and ratio.median > 2  # ten times, but for waits of the machine


def test_a_renderer_reaches_the_environments_that_have_a_choice():
    speeds, _ = speed.simulators(("fake/Fast-v0", "fake/Slow-v0"), 1, 2, renderer="ink")
    assert [entry.name for entry in speeds] == ["simulator, both cameras (paint)", "simulator, both cameras (ink)"]


def test_a_renderer_that_none_draws_with_is_refused():
    with pytest.raises(UserError, match="--renderer is egl, but fake/Fast-v0 draw with paint"):
        speed.simulators(("fake/Fast-v0",), 1, 2, renderer="egl")


@pytest.mark.slow
def test_benchmark_compares_simulators_and_measures_the_policy(capfd, tmp_path):
    first, second = "rf/PlayTableD-v0", "rf/PlayTableChainD-v0"
    words = ["--env", first, second, "--repeats", "1", "--steps", "5", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        cli.main(["benchmark", *words, "--output", str(tmp_path / "speed.json")])
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and not err
    assert "times as fast" in out and "training" in out
    result = json.loads((tmp_path / "speed.json").read_text())
    assert result["env"] == first
    names = {(entry["env"], entry["name"]) for entry in result["speeds"]}
    for env in (first, second):
        assert {(env, "simulator, both cameras (tiny)"), (env, "simulator, physics only")} <= names
    for name in ("policy, an observation step", "simulator and policy", "training, frames of all windows"):
        assert (None, name) in names
    assert [(ratio["name"], ratio["env"], ratio["other"]) for ratio in result["ratios"]] == [
        ("both cameras", first, second),
        ("physics only", first, second),
    ]
    assert all(entry["low"] <= entry["median"] <= entry["high"] for entry in result["speeds"] + result["ratios"])


@pytest.mark.parametrize("words", [["rf/PlayTableD-v0"] * 2, []])
def test_environments_are_given_once(capfd, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["benchmark", "--env", *words])
    assert stop.value.code == 1 and "give one environment, or several different ones" in capfd.readouterr().err
