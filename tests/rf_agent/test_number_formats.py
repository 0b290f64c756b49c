"""Acting in bfloat16: nearly the same actions, and observations, actions and states that stay float32."""

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


@pytest.mark.parametrize("changes", WAYS, ids=" ".join)
def test_bfloat16_acts_nearly_as_float32(changes):
    policy = make_policy(0, *changes)
    whole = [policy.predict_action_chunk(make_observation(t, n=2)) for t in range(6)]
    policy.reset()
    policy.to(torch.bfloat16)
    state, halves = None, []
    for t in range(6):
        chunk = policy.predict_action_chunk(make_observation(t, n=2))
        action, state = policy.predict(make_observation(t, n=2), state)
        assert chunk.dtype == action.dtype == state.memory.dtype == np.float32
        halves.append(chunk)
    difference = np.abs(np.array(halves) - whole)[..., :6].max()
    assert 0 < difference < 0.02 and np.abs(whole).max() <= 1


def test_batches_in_bfloat16_equal_each_alone():
    policy = make_policy().to(torch.bfloat16)
    observation = make_observation(0, n=3, instruction=list(CORPUS))
    together = policy.predict(observation)[0]
    alone = [policy.predict(row(observation, i))[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, atol=0.01)


def test_checkpoints_load_in_another_number_format(tmp_path):
    policy = make_policy()
    directory = policy.save_pretrained(tmp_path / "policy")
    loaded = RoboFlamingoPolicy.from_pretrained(directory, "cpu", dtype="bfloat16")
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16} and loaded.dtype == torch.bfloat16
    assert all(buffer.dtype != torch.bfloat16 for buffer in loaded.buffers())  # rotary frequencies stay exact
    for ours, theirs in zip(loaded.parameters(), policy.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    chunk, expected = (p.predict_action_chunk(make_observation(0)) for p in (loaded, policy))
    np.testing.assert_allclose(chunk[..., :6], expected[..., :6], atol=0.02)


RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_towers_with_batch_norm_act_in_half_precision(tmp_path, dtype):
    whole = make_policy(0, f"vision.model={json.dumps(RESNET)}")
    norms = [module for module in whole.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.normal_(norm.running_mean, std=0.1)
    half = RoboFlamingoPolicy.from_pretrained(whole.save_pretrained(tmp_path / "policy"), "cpu", dtype)
    chunks = [policy.predict_action_chunk(make_observation(0)) for policy in (whole, half)]
    assert norms and 0 < np.abs(chunks[0] - chunks[1])[..., :6].max() < 0.02
