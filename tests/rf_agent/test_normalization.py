"""Actions in a robot's own units and back."""

import numpy as np
import pytest
import torch

from rf_agent.config import ActionConfig, ConfigError, StateConfig
from rf_agent.errors import UserError
from rf_agent.nn.heads.base import Proprioception
from rf_agent.normalization import (
    action_range,
    closed_or_open,
    normalize_actions,
    state_statistics,
    unnormalize_actions,
)

CONFIG = ActionConfig(3, gripper=1, normalization="min_max", low=(-2.0, 0.0, 10.0), high=(2.0, 0.08, 30.0))


def test_there_and_back():
    actions = np.array([[-2, 0, 10], [2, 0.08, 30], [1, 0.08, 20]], np.float32)
    normalized = normalize_actions(torch.from_numpy(actions), CONFIG)
    assert torch.allclose(normalized, torch.tensor([[-1.0, -1, -1], [1, 1, 1], [0.5, 1, 0]]))
    back = unnormalize_actions(normalized.numpy(), CONFIG)
    np.testing.assert_allclose(back, actions, atol=1e-6)
    assert back.dtype == np.float32 and (back[:, 1] == actions[:, 1]).all()  # a gripper is exactly open or closed


def test_without_normalization_nothing_is_touched():
    actions = torch.randn(4, 7)
    assert normalize_actions(actions, ActionConfig(7, 6)) is actions
    array = actions.numpy()
    assert unnormalize_actions(array, ActionConfig(7, 6)) is array


def test_the_gripper_opens_above_zero():
    chunk = np.array([[[0.3, 0.1, 0.2], [0.3, -0.1, 0.2]]], np.float32)
    assert np.array_equal(closed_or_open(chunk, CONFIG)[0, :, 1], [1, -1])
    assert closed_or_open(chunk, ActionConfig(3)) is chunk


def test_quantiles_leave_outliers_out_but_not_the_gripper():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (1000, 2)).astype(np.float32)
    actions[0] = 100.0, 5.0
    low, high = action_range(actions, "quantiles", gripper=1)
    assert 0.9 < high[0] < 1.1 and high[1] == 5.0
    assert action_range(actions, "min_max", None)[1] == [100.0, 5.0]


def test_an_entry_that_never_changes_has_no_range():
    with pytest.raises(UserError, match=r"actions\[:, 1\] is 0.5 in all 3 steps .*\(3, 2\)"):
        action_range(np.array([[0, 0.5], [1, 0.5 + 1e-8], [2, 0.5]], np.float32), "min_max", None)
    mean, std = state_statistics([np.array([[0, 5], [2, 5]], np.float32)], (0, 1))
    assert mean == [1, 5] and std == [1, 1]


def test_a_policy_reads_states_that_are_normalised_and_angles_without_a_jump():
    rng = np.random.default_rng(0)
    roll = np.pi + rng.normal(0, 0.05, 500)  # jumps between pi and -pi
    state = np.stack([rng.normal(3, 2, 500), (roll + np.pi) % (2 * np.pi) - np.pi, rng.normal(size=500)], axis=1)
    state = state.astype(np.float32)
    mean, std = state_statistics([state[:200], state[200:]], (0, 1), (1,))
    config = StateConfig("state", 3, (0, 1), (1,), None, "mean_std", tuple(mean), tuple(std))
    config.check()
    reads = Proprioception(4, config)
    seen = []
    reads.arm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reads(torch.from_numpy(state))
    numbers = seen[0].numpy()  # entry 0, the sine and the cosine of entry 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(numbers.std(axis=0), 1, atol=1e-3)
    wrapped = state + np.array([0, 2 * np.pi, 0], np.float32)
    torch.testing.assert_close(reads(torch.from_numpy(wrapped)), reads(torch.from_numpy(state)), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"angles": (2,)}, "state.angles names entry 2, which is not in state.entries"),
        ({"angles": (1,), "mean": (0.0, 0.0), "std": (1.0, 1.0)}, "have 2 and 2 values, but state.entries make 3"),
        ({"mean": (0.0, 0.0), "std": (1.0, 0.0)}, "those of state.std above zero"),
        ({"mean": (0.0, float("nan")), "std": (1.0, 1.0)}, "are to be finite numbers"),
        ({"normalization": "z"}, "state.normalization is 'z': give one of none, mean_std"),
    ],
)
def test_what_a_state_cannot_be_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        StateConfig(**{"key": "state", "dim": 3, "entries": (0, 1), **values}).check()


@pytest.mark.parametrize(
    "values",
    [
        {"gripper": 3},
        {"normalization": "z-score"},
        {"normalization": "min_max"},
        {"normalization": "min_max", "low": (0.0,), "high": (1.0,)},
        {"low": (0.0,), "high": (1.0,)},
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(values):
    with pytest.raises(ConfigError, match="action"):
        ActionConfig(3, **values).check()
