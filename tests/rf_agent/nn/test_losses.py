"""Training objectives on numbers that can be checked by hand."""

import pytest
import torch

from rf_agent.config import LossConfig
from rf_agent.nn.losses import action_loss, next_token_loss, position_loss, token_accuracy


def test_action_loss_by_hand():
    pose, logits = torch.zeros(1, 1, 1, 6), torch.zeros(1, 1, 1)
    actions = torch.tensor([0.5, 0, 0, 0, 0, 0, 1.0]).view(1, 1, 1, 7)
    loss, metrics = action_loss(pose, logits, actions, torch.ones(1, 1).bool(), LossConfig(gripper_weight=0.1), 6)
    assert metrics["pose_loss"] == pytest.approx(0.5 * 0.25 / 6)
    assert metrics["gripper_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert loss == pytest.approx(float(metrics["pose_loss"] + 0.1 * metrics["gripper_loss"]))
    squared, _ = action_loss(
        pose, logits, actions, torch.ones(1, 1).bool(), LossConfig(pose="mse", gripper_weight=0.0), 6
    )
    assert squared == pytest.approx(0.25 / 6)


@pytest.mark.parametrize(("entry", "loss", "right"), [(1.0, 0.1269, 1.0), (0.0, 2.1269, 0.0), (-1.0, 2.1269, 0.0)])
def test_a_gripper_above_zero_is_to_open(entry, loss, right):
    actions, mask = torch.zeros(1, 1, 1, 7), torch.ones(1, 1).bool()
    actions[..., 6] = entry
    opens = torch.full((1, 1, 1), 2.0)
    _, metrics = action_loss(torch.zeros(1, 1, 1, 6), opens, actions, mask, LossConfig(), 6)
    assert metrics["gripper_loss"] == pytest.approx(loss, abs=1e-4) and metrics["gripper_accuracy"] == right


def test_padding_contributes_nothing():
    torch.manual_seed(0)
    pose, logits = torch.randn(2, 5, 3, 6).tanh(), torch.randn(2, 5, 3)
    actions, mask = torch.randn(2, 5, 3, 7).clamp(-1, 1), torch.ones(2, 5, 3, dtype=torch.bool)
    mask[:, 3:], mask[0, 2, 1:] = False, False
    loss, _ = action_loss(pose, logits, actions, mask, LossConfig(), 6)
    actions[~mask] = 0.9
    again, _ = action_loss(pose, logits, actions, mask, LossConfig(), 6)
    assert loss == again
    short, _ = action_loss(*(x[:, :2] for x in (pose, logits, actions)), mask[:, :2], LossConfig(), 6)
    steps, _ = action_loss(*(x[:, :2] for x in (pose, logits, actions)), torch.ones(2, 2).bool(), LossConfig(), 6)
    assert short == steps
    nothing, _ = action_loss(pose, logits, actions, torch.zeros(2, 5).bool(), LossConfig(), 6)
    assert nothing == 0


def test_next_token_loss_counts_answers_only():
    tokens = torch.tensor([[1, 2, 3, 0]])
    target = torch.tensor([[False, False, True, False]])
    logits = torch.zeros(1, 4, 5)
    logits[0, 1, 3] = 20.0  # what follows the second token
    assert next_token_loss(logits, tokens, target) < 1e-3
    assert token_accuracy(logits, tokens, target).all()
    assert not token_accuracy(-logits, tokens, target).any()


def test_unknown_places_are_ignored():
    target, known = torch.zeros(1, 3), torch.tensor([[True, True, False]])
    far = torch.tensor([[0.0, 0.0, 9.0]])
    assert position_loss(far, target, known) == 0
    assert position_loss(torch.tensor([[0.1, 0.0, 0.0]]), target, known) == pytest.approx(0.025)
