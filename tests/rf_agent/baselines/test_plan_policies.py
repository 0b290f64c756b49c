"""MCIL and HULC as policies: their sizes, their robots, and runs that are resumed."""

import json
from dataclasses import replace

import pytest
import torch
from demo_files import CALVIN, make_demo, make_store
from tiny_runs import interrupt_at

import rf_agent
from rf_agent.config import ConfigError
from rf_agent.demos.store import append_demos, create_store
from rf_agent.errors import UserError
from rf_agent.policies import policy_class
from rf_agent.presets import preset
from rf_agent.tokenizer import build_tokenizer
from rf_agent.training.trainer import TrainConfig, train

KINDS = ["mcil", "hulc"]
TINY_TRAINABLE, TINY = 2_241_819, 3_500_395  # of roboflamingo-tiny
# an encoder as small as the tests' robot world, for runs from nothing
SMALL = (
    "head.hidden=16",
    "head.goal_hidden=16",
    "head.proposal=[16]",
    "head.recognition_hidden=16",
    "head.window=4",
    "encoder.hidden=[16]",
    "image.size=32",
)


def numbers(policy, trainable=False):
    return sum(p.numel() for p in policy.parameters() if p.requires_grad or not trainable)


def on_meta(name):
    config = preset(name)
    with torch.device("meta"):
        policy = policy_class(config.type)(config, build_tokenizer((), 300))
    policy.set_trainable()
    return policy


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_ones_are_as_large_as_roboflamingo_tiny(kind):
    policy = on_meta(f"{kind}-tiny")
    assert abs(numbers(policy, trainable=True) / TINY_TRAINABLE - 1) < 0.1
    assert abs(numbers(policy) / TINY - 1) < 0.1
    ours, theirs = preset(f"{kind}-tiny"), preset("roboflamingo-tiny")
    assert ours.vision == theirs.vision and ours.language.model == theirs.language.model
    assert (ours.head.window, ours.head.chunk_size) == (theirs.head.window, theirs.head.chunk_size)


def test_full_ones_have_the_papers_sizes():
    mcil, hulc = on_meta("mcil"), on_meta("hulc")
    for policy in (mcil, hulc):
        head = policy.config.head
        assert policy.sentence_encoder.dim == 384 and policy.head.layout.perceptual == 128
        assert (head.hidden, head.layers, head.mixtures, head.goal, head.chunk_size) == (2048, 2, 10, 32, 1)
    assert mcil.head.plans.dim == 256 and hulc.head.plans.dim == 32 * 32
    assert hulc.head.sees == 64 and mcil.head.sees == 128  # HULC's decoder reads the gripper's camera


@pytest.mark.parametrize("kind", KINDS)
def test_configurations_are_kept(kind, tmp_path):
    config = preset(kind).changed(["head.beta=0.5", "encoder.width=32"])
    config.save(tmp_path / "config.json")
    assert type(config).load(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text())["head"]["goal"] == 32
    with pytest.raises(ConfigError, match="head.type is 'lstm', but a policy of type"):
        preset(kind).changed(["head.type=lstm"])
    with pytest.raises(ConfigError, match="encoder.keypoints is 'none'"):
        preset(kind).changed(["encoder.keypoints=none"])
    with pytest.raises(ConfigError, match="encoder.channels is 0"):
        preset(kind).changed(["encoder.channels=0"])


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_runs_equal_uninterrupted_ones(kind, tmp_path, monkeypatch):
    """Plans are drawn at random in training: bit by bit the same after an interruption."""
    settings = {
        "demos": (make_store(tmp_path / "demos.hdf5"),),
        "preset": f"{kind}-tiny",
        "override": SMALL,
        "steps": 6,
        "batch_size": 3,
        "sequence_length": 6,
        "validation_fraction": 0.3,
        "device": "cpu",
        "threads": 1,
    }
    whole = train(TrainConfig(output=tmp_path / "whole", **settings))
    interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(output=tmp_path / "parts", **settings))
    monkeypatch.undo()
    parts = train(TrainConfig(output=tmp_path / "parts", resume=True, **settings))
    assert parts.scalars == whole.scalars
    one, other = (rf_agent.load_policy(run.output, "cpu").state_dict() for run in (whole, parts))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_hulc_needs_sequences_to_compare(tmp_path):
    settings = {"demos": (make_store(tmp_path / "demos.hdf5"),), "preset": "hulc-tiny", "steps": 1, "batch_size": 3}
    settings |= {"gradient_accumulation": 2, "sequence_length": 6, "device": "cpu", "threads": 1}
    with pytest.raises(UserError, match="--batch-size is 3, and the step has 2 parts, but HULC's .* give 4 or more"):
        train(TrainConfig(output=tmp_path / "run", override=SMALL, **settings))
    assert not (tmp_path / "run" / "run.json").exists()
    train(TrainConfig(output=tmp_path / "run", override=(*SMALL, "head.contrastive=0"), **settings))


def test_hulc_with_another_robot(tmp_path):
    """Its gripper's frame is CALVIN's: others are refused, until it is switched off."""
    path, layout = tmp_path / "demos.hdf5", replace(CALVIN, action_dim=4, gripper=3)
    create_store(path, layout, {"env_id": "test"})
    for seed in range(3):
        demo = make_demo(8, 1, "open_drawer", seed)
        demo.actions = demo.actions[:, 3:]
        append_demos(path, [demo], layout)
    settings = {"demos": (path,), "preset": "hulc-tiny", "steps": 2, "batch_size": 2, "sequence_length": 6}
    settings |= {"device": "cpu", "threads": 1, "validation_fraction": 0.0}
    with pytest.raises(ConfigError, match="head.gripper_frame is True, but the robot has actions of 4 entries"):
        train(TrainConfig(output=tmp_path / "refused", override=SMALL, **settings))
    world = ("head.gripper_frame=false", "head.proprioception=false")
    report = train(TrainConfig(output=tmp_path / "run", override=(*SMALL, *world), **settings))
    policy = rf_agent.load_policy(report.output, "cpu")
    assert policy.config.action.dim == 4 and policy.head.feature_dim == policy.encoder.dim
