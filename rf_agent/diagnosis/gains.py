"""How far an action moves the robot, in the data and in the environment: their ratio is that of the actions' units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rf_agent.diagnosis.episodes import Episode

TOGETHER = 0.6
"""Correlation from which an entry of the actions moves an entry of the state."""


def unit_ratios(
    episodes: Sequence[Episode], states: Sequence[NDArray[np.float32] | None], gripper: int | None
) -> NDArray[np.float64] | None:
    """The factors by which recorded actions would move the robot in the environment as far as in the data.

    Neither the starts nor the tasks need to be the same.

    Args:
        episodes: what was recorded.
        states: (T', S) that the environment gave while their actions were carried out; None where it gave none.
        gripper: an entry that is left out.

    Returns:
        (D,) with NaN for entries that no entry of the state follows, in the data and in the environment; None if there
        is no entry but those.
    """
    both = [(e, s) for e, s in zip(episodes, states, strict=True) if e.state is not None and s is not None]
    if not both:
        return None
    recorded = _motion([(e.executed, e.state) for e, _ in both if e.state is not None])
    shown = _motion([(e.executed[: len(s)], s) for e, s in both])
    factors = np.full(recorded[0].shape[1], np.nan)
    for entry in range(len(factors)):
        if entry == gripper:
            continue
        follows = [_correlation(recorded[0][:, entry], moved) for moved in recorded[1].T]
        column = int(np.argmax(np.abs(follows)))
        if abs(follows[column]) < TOGETHER:
            continue
        if abs(_correlation(shown[0][:, entry], shown[1][:, column])) < TOGETHER:
            continue  # in the environment it moves nothing: a ratio would be one of noise
        ours, theirs = (_slope(actions[:, entry], moved[:, column]) for actions, moved in (recorded, shown))
        if ours and theirs:
            factors[entry] = ours / theirs
    return None if np.isnan(factors).all() else factors


def _motion(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> tuple[NDArray, NDArray]:
    """Actions (N, D), and the change of the state (N, S) during each."""
    used = [(actions[: len(state) - 1], np.diff(state.astype(np.float64), axis=0)) for actions, state in pairs]
    return np.concatenate([a.astype(np.float64) for a, _ in used]), np.concatenate([b for _, b in used])


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-12 and b.std() > 1e-12 else 0.0


def _slope(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Change of b with a, by least squares through the origin."""
    energy = float((a * a).sum())
    return float((a * b).sum()) / energy if energy > 1e-18 else 0.0
