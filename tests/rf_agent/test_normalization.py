"""Actions in a robot's own units and back."""

import numpy as np
import pytest
import torch

from rf_agent.config import ActionConfig, ConfigError
from rf_agent.errors import UserError
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
    mean, std = state_statistics([np.array([[0, 5], [2, 5]], np.float32)])
    assert mean == [1, 5] and std == [1, 1]


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
