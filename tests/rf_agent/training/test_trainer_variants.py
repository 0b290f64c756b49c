"""The trainer with every head, fusion and trainable set."""

import json
import types

import numpy as np
import pytest
import torch
from demo_files import make_store
from policy_cases import make_observation
from tiny_runs import interrupt_at

from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.curves import read_log
from rf_agent.training.loop import Loop
from rf_agent.training.trainer import TrainConfig, train

HEADS = {
    "lstm": ("head.proprioception=true",),
    "gpt": ("head.heads=2", "head.layers=2", "fusion=two_way"),
    "fc": ("fusion=pre", "head.pool_padding=true", "head.pooling=mean"),
    "fc_hist": ("head.frame_position=true", "fusion=separate"),
}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demos") / "demos.hdf5", demos=6)


@pytest.fixture(scope="module")
def start(demos, tmp_path_factory):
    """A policy to start from, of one resampler and an LSTM."""
    return train(config(demos, tmp_path_factory.mktemp("start") / "run", steps=2)).output


def config(demos, output, **changes):
    base = {
        "steps": 6,
        "batch_size": 3,
        "sequence_length": 6,
        "validation_fraction": 0.3,
        "device": "cpu",
        "threads": 1,
    }
    return TrainConfig(demos=(demos,), output=output, preset="roboflamingo-test", **base | changes)


def load(directory):
    return RoboFlamingoPolicy.from_pretrained(directory, "cpu")


def moved(before, after):
    """Names of tensors of `after` that are not as in `before`."""
    old, new = before.state_dict(), after.state_dict()
    return {name for name in new if name not in old or not torch.equal(new[name], old[name])}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns(demos, tmp_path, head):
    override = (f"head.type={head}", *HEADS[head])
    settings = {"steps": 80, "batch_size": 6, "learning_rate": 3e-3, "ema_decay": 0.9, "override": override}
    report = train(config(demos, tmp_path / "run", **settings))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    errors = [row["pose_error"] for row in log if row["split"] == "train"]
    assert errors[-1] < 0.16  # chance is 0.33
    assert report.scalars["pose_error"] < 0.3  # on held-out demonstrations
    policy = load(report.output)
    assert policy.config.head.type == head and policy.act(make_observation(0)).shape == (7,)
    assert f"head.type={head}" in (report.output / "README.md").read_text()


@pytest.mark.parametrize(
    "variant",
    [
        {"override": ("head.type=fc_hist",)},
        {"trainable": "lora", "lora_rank": 2},
    ],
    ids=["fc_hist", "lora"],
)
def test_resumed_variants_equal_uninterrupted_ones(demos, start, tmp_path, monkeypatch, variant):
    if "trainable" in variant:
        pytest.importorskip("peft")
    whole = train(config(demos, tmp_path / "whole", init=str(start), **variant))
    interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train(config(demos, tmp_path / "parts", init=str(start), **variant))
    monkeypatch.undo()
    parts = train(config(demos, tmp_path / "parts", init=str(start), resume=True, **variant))
    assert not moved(load(whole.output), load(parts.output))


def test_trainable_sets_are_kept_to(demos, start, tmp_path):
    before = load(start)
    expected = {
        "freeze-emb": {"perceiver", "gated_cross_attn_layers", "head"},
        "last-1": {"gated_cross_attn_layers", "lang_encoder", "head"},
        "lora": {"perceiver", "gated_cross_attn_layers", "lang_encoder", "head"},
        "full": {"vision_encoder", "perceiver", "gated_cross_attn_layers", "lang_encoder", "head"},
    }
    for which, parts in expected.items():
        if which == "lora":
            pytest.importorskip("peft")
        after = load(train(config(demos, tmp_path / which, init=str(start), trainable=which, steps=3)).output)
        names = moved(before, after)
        assert {name.removeprefix("vlm.").split(".")[0] for name in names} == parts, which
        layers = any("layers" in name for name in names if "lang_encoder" in name)
        assert layers == (which in ("lora", "full")), which


def test_without_vision_language_pretraining(demos, start, tmp_path):
    before = load(start)
    settings = {"init": str(start), "trainable": "head", "vl_pretrained": False}
    after = load(train(config(demos, tmp_path / "run", **settings)).output)
    parts = {name.removeprefix("vlm.").split(".")[0] for name in moved(before, after)}
    assert parts == {"perceiver", "gated_cross_attn_layers", "head"}


def test_separate_resamplers_start_from_a_shared_one(demos, start, tmp_path):
    settings = {"init": str(start), "trainable": "head", "override": ("fusion=separate",)}
    after = load(train(config(demos, tmp_path / "run", **settings)).output)
    assert torch.equal(after.vlm.other_perceivers[0].latents, load(start).vlm.perceiver.latents)


def test_a_head_of_the_same_shape_is_taken_over(demos, start, tmp_path):
    settings = {"init": str(start), "steps": 1, "learning_rate": 1e-12, "trainable": "head"}
    same = load(train(config(demos, tmp_path / "same", override=("head.window=6",), **settings)).output)
    torch.testing.assert_close(same.head.state_dict(), load(start).head.state_dict())
    other = load(
        train(config(demos, tmp_path / "other", override=("head.type=gpt", "head.heads=2"), **settings)).output
    )
    assert not torch.equal(other.head.actions.mlp[0].weight, same.head.actions.mlp[0].weight)


def test_what_is_drawn_learns_at_the_rate_of_the_head(demos, start, tmp_path, monkeypatch):
    peaks = {}

    def seen(self):
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        groups = self.optimizer.param_groups
        peaks.update({names[id(p)]: group["peak_lr"] for group in groups for p in group["params"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "run", seen)
    cases = {
        "nothing": ({}, ()),
        "init": ({"init": str(start)}, ("vlm.",)),
        "anew": ({"init": str(start), "vl_pretrained": False}, ("vlm.lang_encoder.",)),
        "lora": ({"init": str(start), "trainable": "lora"}, ("vlm.",)),
    }
    for name, (changes, slower) in cases.items():
        peaks.clear()
        with pytest.raises(KeyboardInterrupt):
            train(config(demos, tmp_path / name, **changes))
        adapters = [rate for key, rate in peaks.items() if ".lora_" in key]
        assert bool(adapters) == (name == "lora") and set(adapters) <= {1e-3}
        for key, rate in peaks.items():
            taken = key.removeprefix("policy.").startswith(slower) and ".lora_" not in key
            assert rate == pytest.approx(3e-4 if taken else 1e-3), (name, key)
        assert any(rate < 1e-3 for rate in peaks.values()) == bool(slower)


def test_the_log_has_the_rate_of_the_head_to_the_end(demos, start, tmp_path):
    train(config(demos, tmp_path / "run", init=str(start), warmup=0.0, min_lr_ratio=1.0, steps=21))
    rows = [row for row in read_log(tmp_path / "run") if row["split"] == "train"]
    assert [(row["step"], row["learning_rate"]) for row in rows] == [(20, 1e-3), (21, 1e-3)]


def test_no_validation_is_lost_to_rounding(demos, tmp_path):
    train(config(demos, tmp_path / "run", steps=25, evaluations=25))
    assert sum(row["split"] == "validation" for row in read_log(tmp_path / "run")) == 25


def test_parameters_without_gradient_do_not_stop_training(demos, start, tmp_path):
    override = ("language.lm_feature=last_block_input",)
    after = load(train(config(demos, tmp_path / "run", init=str(start), override=override)).output)
    names = moved(load(start), after)
    assert any("gated_cross_attn_layers.0" in name for name in names)
    assert not any("gated_cross_attn_layers.1" in name for name in names)


def test_runs_of_older_versions_can_be_resumed(demos, tmp_path):
    first = config(demos, tmp_path / "run", steps=4)
    train(first)
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for name in ("trainable", "override"):
        del state["settings"][name]
    state["settings"]["color_jitter"] = "0.05"  # the default, as it was written then
    torch.save(state, path)
    train(config(demos, tmp_path / "run", steps=6, resume=True))
    state["settings"]["lora_rank"] = "4"
    torch.save(state, path)
    with pytest.raises(ValueError, match="lora_rank 4, not 8"):
        train(config(demos, tmp_path / "run", steps=6, resume=True))


def test_wrong_choices_are_explained(demos, tmp_path):
    with pytest.raises(ValueError, match="trainable set 'most'"):
        train(config(demos, tmp_path / "run", trainable="most"))
    with pytest.raises(UserError, match="--trainable head keeps parts .* without --init these are random"):
        train(config(demos, tmp_path / "run", trainable="head"))
    with pytest.raises(ValueError, match="'head.typ'"):
        train(config(demos, tmp_path / "run", override=("head.typ=gpt",)))
    with pytest.raises(ValueError, match="sequence_length is 6, shorter than the head's window: give 8"):
        train(config(demos, tmp_path / "run", override=("head.type=fc_hist", "head.window=8")))
    assert not (tmp_path / "run").exists()


def test_a_head_that_has_learned_without_a_state_begins_as_it_was(tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    settings = {"preset": "roboflamingo-test", "batch_size": 2, "sequence_length": 6, "threads": 1, "device": "cpu"}
    first = train(TrainConfig(demos=(demos,), output=tmp_path / "a", steps=3, **settings)).output
    override = ("head.proprioception=true", "state.angles=[3,4,5]", "state.binary=null", "state.normalization=mean_std")
    second = train(
        TrainConfig(
            demos=(demos,), output=tmp_path / "b", steps=1, init=str(first), override=override, learning_rate=1e-12,
            **settings,
        )
    ).output  # fmt: skip
    without, state = (RoboFlamingoPolicy.from_pretrained(path, "cpu") for path in (first, second))
    assert len(state.config.state.mean) == 9 and state.config.state.std != (1.0,) * 9
    observation = make_observation(0)
    np.testing.assert_allclose(state.act(observation), without.act(observation), atol=1e-5)
    third = train(
        TrainConfig(demos=(demos,), output=tmp_path / "c", steps=3, init=str(second), override=override, **settings)
    ).output
    learned = RoboFlamingoPolicy.from_pretrained(third, "cpu")
    assert learned.config.state == state.config.state  # what a trained policy reads stays
    other = observation | {"robot_obs": observation["robot_obs"] + 1}
    assert not np.allclose(learned.predict_action_chunk(other), learned.predict_action_chunk(observation), atol=1e-7)


def test_all_of_a_policy_goes_on_unless_another_preset_is_named(demos, tmp_path):
    settings = {
        "steps": 1,
        "learning_rate": 1e-12,
        "batch_size": 2,
        "sequence_length": 6,
        "threads": 1,
    }
    other = ("head.hidden=24", "loss.huber_delta=0.3")
    first = train(config(demos, tmp_path / "first", override=other, steps=1)).output
    report = train(TrainConfig(demos=(demos,), output=tmp_path / "next", init=str(first), device="cpu", **settings))
    before, after = load(first), load(report.output)
    assert after.config.head == before.config.head and after.config.loss == before.config.loss
    assert torch.equal(after.head.actions.mlp[0].weight, before.head.actions.mlp[0].weight)
    assert (report.output / "README.md").read_text(encoding="utf-8").startswith("# next\n")

    lines = []
    reporter = types.SimpleNamespace(update=lambda fraction, text: None, log=lines.append)
    another = config(demos, tmp_path / "another", init=str(first), **settings)
    assert load(train(another, reporter).output).config.head.hidden != 24
    assert f"the head is drawn anew: that of {first} has another shape" in lines
