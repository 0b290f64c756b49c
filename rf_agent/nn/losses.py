"""The training objectives: actions (imitation), next tokens and object positions (pre-training)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from rf_agent.config import LossConfig


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true; zero (and differentiable) when it is true nowhere."""
    mask = mask.to(values.dtype).expand_as(values)
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


PoseLoss = Callable[[Tensor, Tensor, "LossConfig"], Tensor]
"""Predicted and demonstrated entries of an action (..., A), normalised, to the error of each of them (..., A)."""

POSE_LOSSES: dict[str, PoseLoss] = {}
"""Losses of the motion by the name in `loss.pose`."""


def register_loss(name: str) -> Callable[[PoseLoss], PoseLoss]:
    """Function decorator: `loss.pose` may be `name`."""

    def add(loss: PoseLoss) -> PoseLoss:
        POSE_LOSSES[name] = loss
        return loss

    return add


@register_loss("huber")
def huber(predicted: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Quadratic up to `config.huber_delta`, then linear."""
    return F.huber_loss(predicted, target, reduction="none", delta=config.huber_delta)


@register_loss("mse")
def mse(predicted: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """The squared error (paper, Eq. 6)."""
    return F.mse_loss(predicted, target, reduction="none")


def action_loss(
    pose: Tensor,
    gripper_logits: Tensor | None,
    actions: Tensor,
    mask: Tensor,
    config: LossConfig,
    gripper: int | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Imitation loss of action chunks: regression of the motion plus weighted gripper cross-entropy.

    The paper's Eq. 6 writes a squared pose error; its implementation uses Huber with delta 1, which is half
    of it for errors below 1. `config.pose` and `config.huber_delta` choose. The gripper's entropy is weighted by
    `config.gripper_weight`.

    Args:
        pose: (B, T, K, A) predictions in [-1, 1] of all entries but the gripper.
        gripper_logits: (B, T, K), above zero opens; None without a gripper.
        actions: (B, T, K, D) demonstrated actions, normalised; the gripper's entry above zero opens it.
        mask: (B, T) valid observation steps, or (B, T, K) valid actions: padding contributes nothing.
        gripper: the gripper's entry in an action.

    Returns:
        The scalar loss and detached scalars: `pose_loss`, `pose_error` (mean absolute error in normalised units), and
            with a gripper `gripper_loss` and `gripper_accuracy`.
    """
    if mask.dim() == 2:
        mask = mask[:, :, None].expand(pose.shape[:3])  # (B, T, K)
    pose, target = pose.float(), actions.float()
    if gripper is not None:
        target = torch.cat((target[..., :gripper], target[..., gripper + 1 :]), dim=-1)
    pose_errors = POSE_LOSSES[config.pose](pose, target, config)
    loss = masked_mean(pose_errors, mask[..., None])
    with torch.no_grad():
        metrics = {"pose_loss": loss.detach(), "pose_error": masked_mean((pose - target).abs(), mask[..., None])}
    if gripper is None or gripper_logits is None:
        return loss, metrics
    logits, opens = gripper_logits.float(), (actions[..., gripper] > 0).float()
    gripper_loss = masked_mean(F.binary_cross_entropy_with_logits(logits, opens, reduction="none"), mask)
    metrics["gripper_loss"] = gripper_loss.detach()
    metrics["gripper_accuracy"] = masked_mean(((logits > 0) == (opens > 0)).float(), mask).detach()
    return loss + config.gripper_weight * gripper_loss, metrics


def next_token_loss(logits: Tensor, tokens: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the next token, where it counts.

    Args:
        logits: (N, L, vocabulary).
        tokens: (N, L) the tokens fed in.
        target: (N, L) true where a token is one to be predicted (not the prompt, not padding).
    """
    return masked_mean(next_token_losses(logits, tokens), target[:, 1:])


def next_token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy (N, L - 1) of every token but the first; arguments as of `next_token_loss`."""
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")


def token_accuracy(logits: Tensor, tokens: Tensor, target: Tensor) -> Tensor:
    """(N,) true where every token to be predicted is the most likely one (an answer is right as a whole)."""
    right = logits[:, :-1].argmax(-1) == tokens[:, 1:]
    return (right | ~target[:, 1:].bool()).all(dim=1)


def position_loss(predicted: Tensor, target: Tensor, known: Tensor, beta: float = 0.1) -> Tensor:
    """Smooth L1 over the known entries of position targets.

    Args:
        predicted, target: (N, D) in normalised units (demos.grounding.POSITION_UNIT metres for positions).
        known: (N, D) false where a target has no value (the yaw of a lamp).
        beta: where the loss turns from quadratic to linear; 0.1 units is one centimetre.
    """
    return masked_mean(F.smooth_l1_loss(predicted.float(), target, beta=beta, reduction="none"), known)
