"""Acting in half precision: nearly the same actions, and observations, actions and states that stay float32."""

import json

import numpy as np
import pytest
import torch
from policy_cases import CORPUS, make_observation, make_policy, row

from rf_agent.policy import RoboFlamingoPolicy

WAYS = [
    ("head.type=lstm", "head.layers=2"),
    ("head.type=gpt", "head.heads=2", "head.pooling=mean"),
    ("head.type=fc", "fusion=two_way"),
    ("head.type=fc_hist", "head.frame_position=true"),
    ("head.type=fc_hist", "fusion=pre"),
    ("head.proprioception=true", "fusion=separate"),
]


def make_seeing_policy(*changes):
    """A policy whose actions depend on the images much more than on rounding: its head has large weights."""
    policy = make_policy(0, *changes)
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter *= 3 if parameter.dim() == 2 else 1
    return policy


def make_colours(seed, instruction=CORPUS[0]):
    """An observation of three environments that differ in their images alone, each of another colour."""
    observation = make_observation(seed, n=3, instruction=instruction)
    colours = np.random.default_rng(seed).integers(0, 256, (2, 3, 1, 1, 3))
    observation["rgb_static"][:], observation["rgb_gripper"][:] = colours
    observation["robot_obs"][:] = observation["robot_obs"][0]
    return observation


def exchanged(observation):
    """The same, with the images of each environment in another one."""
    return observation | {view: np.roll(observation[view], 1, axis=0) for view in ("rgb_static", "rgb_gripper")}


def motions(policy, observations):
    policy.reset()
    return np.array([policy.predict_action_chunk(observation)[..., :6] for observation in observations])


def error(half, whole):
    """How far a policy acts from another one, by how far that one acts where the images are exchanged."""
    observations = [make_colours(t) for t in range(6)]
    expected = motions(whole, observations)
    astray = np.linalg.norm(motions(whole, map(exchanged, observations)) - expected)
    return np.linalg.norm(motions(half, observations) - expected) / astray


@pytest.mark.parametrize("changes", WAYS, ids=" ".join)
def test_bfloat16_acts_nearly_as_float32(changes):
    whole, half = make_seeing_policy(*changes), make_seeing_policy(*changes).to(torch.bfloat16)
    assert 0 < error(half, whole) < 0.25


@pytest.mark.parametrize("changes", WAYS, ids=" ".join)
def test_what_goes_in_and_out_of_bfloat16_is_float32(changes):
    policy = make_policy(0, *changes).to(torch.bfloat16)
    state = None
    for t in range(3):
        chunk = policy.predict_action_chunk(make_observation(t, n=2))
        action, state = policy.predict(make_observation(t, n=2), state)
        assert chunk.dtype == action.dtype == state.memory.dtype == np.float32


def test_batches_in_bfloat16_equal_each_alone():
    policy = make_seeing_policy().to(torch.bfloat16)
    observations = [make_colours(t, list(CORPUS)) for t in range(6)]
    each = [motions(policy, [row(observation, i) for observation in observations]) for i in range(3)]
    alone = np.concatenate(each, axis=1)
    astray = np.linalg.norm(motions(policy, map(exchanged, observations)) - alone)
    assert np.linalg.norm(motions(policy, observations) - alone) < 0.25 * astray


def test_checkpoints_load_in_another_number_format(tmp_path):
    policy = make_seeing_policy()
    directory = policy.save_pretrained(tmp_path / "policy")
    loaded = RoboFlamingoPolicy.from_pretrained(directory, "cpu", dtype="bfloat16")
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16} and loaded.dtype == torch.bfloat16
    assert all(buffer.dtype != torch.bfloat16 for buffer in loaded.buffers())  # rotary frequencies stay exact
    for ours, theirs in zip(loaded.parameters(), policy.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    assert error(loaded, policy) < 0.25


RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_towers_with_batch_norm_act_in_half_precision(tmp_path, dtype):
    whole = make_seeing_policy(f"vision.model={json.dumps(RESNET)}")
    norms = [module for module in whole.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.manual_seed(0)
    for norm in norms:
        torch.nn.init.normal_(norm.running_mean, std=0.1)
    half = RoboFlamingoPolicy.from_pretrained(whole.save_pretrained(tmp_path / "policy"), "cpu", dtype)
    assert norms and 0 < error(half, whole) < 0.25
