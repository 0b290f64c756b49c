"""Actions and states in a robot's own units, and the numbers around zero that the network works with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.config import ActionConfig
from rf_agent.errors import UserError

QUANTILES = (0.01, 0.99)
NORMALIZATIONS = ("none", "min_max", "quantiles")


def normalize_actions(actions: Tensor, config: ActionConfig) -> Tensor:
    """Actions (..., D) in the environment's units -> numbers in [-1, 1]; what lies beyond the stored range is cut."""
    if config.normalization == "none":
        return actions
    low, high = (torch.tensor(values, device=actions.device) for values in (config.low, config.high))
    return (2 * (actions - low) / (high - low) - 1).clamp(-1.0, 1.0)


def unnormalize_actions(actions: NDArray[np.float32], config: ActionConfig) -> NDArray[np.float32]:
    """Inverse of `normalize_actions`, for numbers (..., D) in [-1, 1]."""
    if config.normalization == "none":
        return actions
    low, high = (np.array(values, np.float32) for values in (config.low, config.high))
    share = (actions + 1) / 2
    # exact at both ends, where a gripper always is
    return ((1 - share) * low + share * high).astype(np.float32)


def closed_or_open(actions: NDArray[np.float32], config: ActionConfig) -> NDArray[np.float32]:
    """Normalised actions (..., D) whose gripper is either open, 1, or closed, -1."""
    if config.gripper is None:
        return actions
    actions = actions.copy()
    actions[..., config.gripper] = np.where(actions[..., config.gripper] > 0, 1, -1)
    return actions


def action_range(actions: NDArray[np.float32], how: str, gripper: int | None) -> tuple[list[float], list[float]]:
    """What -1 and 1 stand for, by entry of the action: (low, high).

    Args:
        actions: (N, D) of all demonstrations.
        how: `min_max` for the smallest and largest values; `quantiles` for the values that 1 % and 99 % of the actions
            lie below, so that a few outliers do not make all others small. A gripper always has its smallest and
            largest value.

    Raises:
        UserError: an entry never changes, so that it has no range.
    """
    low, high = actions.min(axis=0), actions.max(axis=0)
    if how == "quantiles":
        quantiles = np.quantile(actions, QUANTILES, axis=0).astype(np.float32)
        for index in range(actions.shape[1]):
            if index != gripper and not _is_constant(quantiles[0, index], quantiles[1, index]):
                low[index], high[index] = quantiles[:, index]
    for index in range(actions.shape[1]):
        if _is_constant(low[index], high[index]):
            raise UserError(
                f"actions[:, {index}] is {low[index]:g} in all {len(actions)} steps of the demonstrations (shape "
                f"{actions.shape}), so it has no range: leave that entry out of the actions, or give "
                "--action-normalization none if all entries lie in [-1, 1]"
            )
    return low.tolist(), high.tolist()


def _is_constant(low: float, high: float) -> bool:
    return bool(high - low <= 1e-5 * max(1e-3, abs(low), abs(high)))  # rounding is no motion


def state_statistics(
    states: Iterable[NDArray[np.float32]], entries: Sequence[int], angles: Sequence[int] = ()
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the numbers that a policy reads of states (T, S).

    Args:
        states: of the demonstrations.
        entries: those that are read.
        angles: those of them that are read as sine and cosine.

    Returns:
        Of the plain entries, the sines and the cosines. A number that never changes has the deviation 1.
    """
    every = np.concatenate(list(states)).astype(np.float64)
    plain, turned = every[:, [entry for entry in entries if entry not in angles]], every[:, list(angles)]
    numbers = np.concatenate([plain, np.sin(turned), np.cos(turned)], axis=1)
    std = numbers.std(axis=0)
    return numbers.mean(axis=0).tolist(), np.where(std > 1e-6, std, 1.0).tolist()
