"""How a policy acts: what the flags choose, and what belongs to the results."""

import json
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from rf_agent import RoboFlamingoPolicy
from rf_agent.commands import evaluate
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Execution, RandomAgent, load_policy

TINY = "roboflamingo-tiny"


def test_what_is_not_given_is_as_in_the_checkpoint():
    own = load_policy(TINY).config.head
    resolved = Execution().resolved(TINY)
    assert (resolved.n_action_steps, resolved.repeat, resolved.ensemble) == (
        own.n_action_steps,
        own.repeat,
        own.ensemble,
    )
    assert Execution().changes(TINY) == {}
    assert Execution(n_action_steps=own.n_action_steps).changes(TINY) == {}


def test_a_policy_acts_as_it_was_told():
    head = load_policy(TINY, "cpu", Execution(n_action_steps=1, repeat=2)).config.head
    assert (head.n_action_steps, head.repeat, head.ensemble) == (1, 2, None)
    head = load_policy(TINY, "cpu", Execution(ensemble=0.1)).config.head
    assert (head.replan_every, head.ensemble) == (1, 0.1)
    assert str(load_policy(TINY, "cpu", Execution(dtype="bfloat16")).dtype) == "torch.bfloat16"


def test_a_checkpoint_that_was_written_anew_is_read_anew(tmp_path):
    bias = []
    for value in (0.0, 1.0):
        policy = RoboFlamingoPolicy.from_pretrained(TINY)
        with torch.no_grad():
            next(iter(policy.head.parameters())).fill_(value)
        policy.save_pretrained(tmp_path / "policy")
        loaded = load_policy(str(tmp_path / "policy"))
        bias.append(next(iter(loaded.head.parameters())).mean().item())
        assert load_policy(str(tmp_path / "policy")) is loaded
    assert bias == [0.0, 1.0]


def test_a_policy_that_has_not_learned_to_act_is_named(tmp_path, recwarn):
    """Such as what `rf-agent pretrain` leaves."""
    load_policy(TINY, keep=False)
    assert not [warning for warning in recwarn if "learned to act" in str(warning.message)]
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["open"]).save_pretrained(tmp_path / "vlm")
    with pytest.warns(UserWarning, match="vlm' has not learned to act: train it with `rf-agent train --init .*vlm`"):
        load_policy(str(policy), keep=False)


def test_compiling_reaches_the_policy():
    plain = type(load_policy(TINY)._step)
    assert type(load_policy(TINY, "cpu", Execution(compile=True))._step) is not plain


def test_execution_belongs_to_the_results(tmp_path):
    def args(**changes):
        common = {"env": "fake_env:fake/Task-v0", "tasks": ("go_far",), "episodes_per_task": 1, "workers": 1}
        return evaluate.Args(output=tmp_path, device="cpu", **common, **changes)

    evaluate.run(args(n_action_steps=1, repeat=20))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["execution"] == {
        "n_action_steps": 1,
        "repeat": 20,
        "ensemble": None,
        "dtype": "float32",
        "compile": False,
    }
    for changes in ({"n_action_steps": 1, "repeat": 10}, {}, {"n_action_steps": 1, "repeat": 20, "dtype": "bfloat16"}):
        with pytest.raises(UserError, match="give another --output"):
            evaluate.run(args(**changes))
    evaluate.run(args(n_action_steps=1, repeat=20))


def test_random_actions_keep_to_the_bounds_and_follow_the_seed():
    space = gym.spaces.Box(np.array([-0.5, 0, -np.inf], np.float32), np.array([0.5, 2, np.inf], np.float32))
    env = SimpleNamespace(action_space=space)
    agent = RandomAgent()
    agent.reset(env, seed=3)
    actions = np.stack([agent.act({}) for _ in range(200)])
    assert (actions >= [-0.5, 0, -1]).all() and (actions <= [0.5, 2, 1]).all() and actions[:, 1].max() > 1.5
    agent.reset(env, seed=3)
    assert np.array_equal(agent.act({}), actions[0])


def test_random_actions_of_a_discrete_space_follow_the_seed():
    env = SimpleNamespace(action_space=gym.spaces.Discrete(5))
    agent = RandomAgent()
    agent.reset(env, seed=3)
    actions = [agent.act({}) for _ in range(50)]
    assert set(actions) == set(range(5))
    agent.reset(env, seed=3)
    assert [agent.act({}) for _ in range(50)] == actions
