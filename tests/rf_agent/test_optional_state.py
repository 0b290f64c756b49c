"""`head.state_dropout`: a policy that reads the robot's state where it is given, and acts and trains without it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from demo_files import make_store
from policy_cases import make_observation, make_policy

from rf_agent import RoboFlamingoPolicy
from rf_agent.baselines.rt1 import RT1Policy
from rf_agent.config import ConfigError
from rf_agent.demos import read_demonstrations, write_demonstrations
from rf_agent.demos.files import DemoError
from rf_agent.demos.windows import ChunkSampler, DemoSet
from rf_agent.nn.plan_config import MCILHeadConfig
from rf_agent.presets import preset
from rf_agent.serving.observations import ObservationReader, server_metadata
from rf_agent.training.robot import open_all
from rf_agent.training.trainer import TrainConfig, train

OPTIONAL = ("head.proprioception=true", "head.state_dropout=0.4")


def without(observation):
    return {key: value for key, value in observation.items() if key != "robot_obs"}


@pytest.mark.parametrize("kind", ["lstm", "gpt", "fc", "fc_hist", "rt1"])
def test_it_acts_with_the_state_and_without(kind, tmp_path):
    policy = make_policy(0, *OPTIONAL, f"head.type={kind}")
    observation = make_observation(0, n=2)
    chunks = []
    for given in (observation, without(observation)):
        policy.reset()
        chunks.append(policy.predict_action_chunk(given))
    assert np.isfinite(chunks).all() and not np.array_equal(*chunks)
    # an unknown state adds nothing: it is the policy without its embedding of states
    plain = make_policy(0, f"head.type={kind}")
    weights = policy.state_dict()
    plain.load_state_dict({name: value for name, value in weights.items() if "proprioception" not in name})
    np.testing.assert_allclose(plain.predict_action_chunk(without(observation)), chunks[1], atol=1e-6)
    policy.save_pretrained(tmp_path / "saved")
    again = RoboFlamingoPolicy.from_pretrained(tmp_path / "saved", "cpu")
    np.testing.assert_allclose(again.predict_action_chunk(without(observation)), chunks[1], atol=1e-6)


def test_a_state_that_is_given_is_checked_as_ever():
    policy = make_policy(0, *OPTIONAL)
    for state in (np.zeros((2, 7)), np.full((2, 15), np.nan)):
        with pytest.raises(ValueError, match="robot_obs has"):
            policy.act({**make_observation(0, n=2), "robot_obs": state})


def rt1(seed, *changes):
    config = preset("rt1-tiny").beginning_from(preset("roboflamingo-test")).changed(changes)
    return RT1Policy.from_config(config, ["open the drawer"], seed)


@pytest.mark.parametrize("make", [make_policy, rt1], ids=["lstm", "rt1"])
def test_a_window_without_the_state_is_one_of_unknown_states(make):
    policy = make(0, *OPTIONAL).eval()
    pixels, (tokens, mask) = torch.randn(2, 3, 2, 3, 32, 32), policy.tokenize(["open the drawer"] * 2)
    unknown = torch.full((2, 3, 15), torch.nan)
    with torch.no_grad():
        missing, nan = policy.window(pixels, tokens, mask), policy.window(pixels, tokens, mask, unknown)
        known = policy.window(pixels, tokens, mask, torch.randn(2, 3, 15))
    assert torch.equal(missing.pose, nan.pose) and not torch.allclose(missing.pose, known.pose)
    # of one sequence the state is known, of the other it is not: what is left out leaves no trace in the gradients
    unknown[0] = torch.randn(3, 15)
    policy.window(pixels, tokens, mask, unknown).gripper_logits.sum().backward()  # RT-1's motion has no gradient
    gradients = [parameter.grad for parameter in policy.head.proprioception.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_state_that_is_needed_is_never_taken_for_unknown():
    policy = make_policy(0, OPTIONAL[0]).eval()
    pixels, (tokens, mask) = torch.randn(1, 3, 2, 3, 32, 32), policy.tokenize(["open the drawer"])
    with torch.no_grad():
        assert policy.window(pixels, tokens, mask, torch.full((1, 3, 15), torch.nan)).pose.isnan().all()
        optional = make_policy(0, *OPTIONAL).eval()
        assert optional.window(pixels, tokens, mask, torch.full((1, 3, 15), torch.inf)).pose.isfinite().all()


def test_training_leaves_out_the_states_of_whole_sequences(tmp_path):
    readers = open_all([make_store(tmp_path / "d.hdf5")])
    for dropout in (0.0, 0.4):
        config = preset("roboflamingo-test").changed(["head.proprioception=true", f"head.state_dropout={dropout}"])
        sampler = ChunkSampler(DemoSet(readers, config), range(6), 4, 0.5, mix_instructions=True)
        batch = sampler.draw(300, np.random.default_rng(0))
        dropped = [state.isnan() for state in batch.state.split(batch.valid.sum(dim=1).tolist())]
        assert all(rows.all() or not rows.any() for rows in dropped)
        assert np.mean([bool(rows.any()) for rows in dropped]) == pytest.approx(dropout, abs=0.08)


def test_it_goes_on_with_demonstrations_that_hold_no_state(tmp_path):
    store = make_store(tmp_path / "d.hdf5")
    demos = [dataclasses.replace(demo, state=None) for demo in read_demonstrations(store)]
    stateless = write_demonstrations(tmp_path / "stateless.hdf5", demos, 30, 6)
    common = {"steps": 3, "batch_size": 3, "sequence_length": 6, "device": "cpu", "threads": 1}
    common |= {"validation_fraction": 0.3, "action_normalization": "none"}
    start = train(
        TrainConfig(demos=(store,), output=tmp_path / "start", preset="roboflamingo-test", override=OPTIONAL, **common)
    ).output
    for index, files in enumerate([(stateless,), (store, stateless)]):
        output = tmp_path / f"again-{index}"
        report = train(TrainConfig(demos=files, output=output, init=str(start), **common))
        assert np.isfinite(report.scalars["pose_loss"])
        policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
        assert policy.config.head.state_optional and policy.config.state.key == "robot_obs"
    # a new head has nothing to learn to read; a new policy learns from what has a state, and from what has none
    fresh = train(TrainConfig(demos=(stateless,), output=tmp_path / "new", init=str(start), init_head=False, **common))
    assert not RoboFlamingoPolicy.from_pretrained(fresh.output, "cpu").config.head.proprioception
    new = {"preset": "roboflamingo-test", "override": OPTIONAL, **common}
    mixed = train(TrainConfig(demos=(stateless, store), output=tmp_path / "mixed", **new))
    assert RoboFlamingoPolicy.from_pretrained(mixed.output, "cpu").config.head.state_optional
    with pytest.raises(DemoError, match=r"stateless.hdf5 has no state, but the policy reads one"):
        train(TrainConfig(demos=(stateless,), output=tmp_path / "refused", **new))
    with pytest.raises(DemoError, match=r"stateless.hdf5 has no state, but the policy reads"):
        strict = TrainConfig(
            demos=(stateless,), output=tmp_path / "strict", preset="roboflamingo-test", override=OPTIONAL[:1], **common
        )
        train(strict)


def test_a_served_policy_takes_messages_with_the_state_and_without():
    config = preset("roboflamingo-test").changed(OPTIONAL)
    for needed in (config, config.changed(["head.state_dropout=0"])):
        reader = ObservationReader.of(server_metadata(needed, "test"))
        message = {**make_observation(0), "instruction": "open the drawer"}
        observation, _ = reader.read(message)
        assert observation["robot_obs"].shape == (15,)
        if needed is config:
            assert "robot_obs" not in reader.read(without(message))[0]
            state = message["robot_obs"].tolist()
            assert reader.read({**without(message), "observation/state": state})[0]["robot_obs"].tolist() == state
            with pytest.raises(ValueError, match="both 'robot_obs' and 'observation/state'"):
                reader.read({**message, "observation/state": state})
        else:
            with pytest.raises(ValueError, match="no 'robot_obs' or 'observation/state'"):
                reader.read(without(message))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(ConfigError, match="head.state_dropout is .*, but it must lie in"):
        preset("roboflamingo-test").changed([f"head.state_dropout={share}"])
    with pytest.raises(ConfigError, match=r"head.state_dropout is 0.1, but a head that acts by a plan"):
        MCILHeadConfig(state_dropout=0.1).check()
