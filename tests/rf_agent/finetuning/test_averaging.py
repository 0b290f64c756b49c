"""Means of policies."""

import pytest
import torch
from policy_cases import make_observation, make_policy

from rf_agent import cli, load_policy
from rf_agent.errors import UserError
from rf_agent.finetuning.averaging import average_policies


@pytest.fixture
def saved(tmp_path):
    """Two policies of one architecture that know different tasks, and one of another."""
    for name, seed, changes in (("a", 0, ()), ("b", 1, ()), ("gpt", 0, ("head.type=gpt", "head.heads=2"))):
        policy = make_policy(seed, f"tasks=[{name!r}]".replace("'", '"'), *changes)
        policy.save_pretrained(tmp_path / name)
    return tmp_path


def test_weights_are_the_weighted_mean(saved):
    a, b = (load_policy(saved / name, "cpu").state_dict() for name in "ab")
    mean = average_policies([saved / "a", saved / "b"], [1, 3])
    for key, value in mean.state_dict().items():
        torch.testing.assert_close(value, (a[key] + 3 * b[key]) / 4 if value.is_floating_point() else b[key])
    assert mean.config.tasks == ("a", "b") and mean.act(make_observation(0)).shape == (7,)
    alone = average_policies([saved / "a", saved / "b"], [0, 1])
    assert all(torch.equal(value, b[key]) for key, value in alone.state_dict().items())


@pytest.mark.parametrize(
    ("names", "shares", "said"),
    [
        (["a"], [1], "1 policies and 1 shares were given: give two or more"),
        (["a", "b"], [1], "2 policies and 1 shares"),
        (["a", "b"], [1, -1], "the shares are 1, -1: give numbers from 0 on"),
        (["a", "b"], [0, 0], "not all of them 0"),
        (["gpt", "a"], [1, 1], r"gpt and .*a differ in head\.type: policies of one architecture have a mean"),
    ],
)
def test_what_has_no_mean_is_refused(saved, names, shares, said):
    with pytest.raises(UserError, match=said):
        average_policies([saved / name for name in names], shares)


def test_how_a_policy_was_trained_and_acts_may_differ(tmp_path):
    make_policy(0, "head.chunk_size=2").save_pretrained(tmp_path / "a")
    other = ("head.chunk_size=2", "head.n_action_steps=2", "head.dropout=0.2", "loss.gripper_weight=0.5")
    make_policy(1, *other).save_pretrained(tmp_path / "b")
    mean = average_policies([tmp_path / "a", tmp_path / "b"], [1, 1])
    assert mean.config.head.n_action_steps == 2 and mean.config.loss.gripper_weight == 0.5
    for seed, name, changes in ((0, "needed", ()), (1, "optional", ("head.state_dropout=0.1",))):
        make_policy(seed, "head.proprioception=true", *changes).save_pretrained(tmp_path / name)
    with pytest.raises(UserError, match="differ in head.state_optional"):
        average_policies([tmp_path / "needed", tmp_path / "optional"], [1, 1])


def test_the_command_says_in_the_card_what_it_is(saved, capfd):
    words = ["convert", "average", "--policies", str(saved / "a"), str(saved / "b"), "--shares", "0.3", "0.7"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--output", str(saved / "mean")])
    out, err = capfd.readouterr()
    assert stop.value.code == 0 and "Policy:" in out and not err
    assert f"0.3 x {saved / 'a'}, 0.7 x {saved / 'b'}" in (saved / "mean" / "README.md").read_text()
    assert load_policy(saved / "mean", "cpu").config.tasks == ("a", "b")
