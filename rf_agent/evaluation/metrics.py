"""Rates and means with 95 % confidence intervals, from the records of episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CHAIN_LENGTH = 5
"""Tasks of a chain."""
Z95 = 1.959963984540054  # the standard normal's 97.5 % quantile


@dataclass(frozen=True)
class Attempt:
    """One try at one task, the unit of the per-task table."""

    task: str
    success: bool
    steps: int = 0
    """Environment steps that it took; 0 in records of earlier versions."""
    instruction: str = ""
    """What was asked for, in words."""


@dataclass(frozen=True)
class Episode:
    """What one finished episode was.

    Args:
        key: name of the work item, unique within an evaluation ("task/3" or "chain/17").
        attempts: one per sub-task that was begun, in order. An episode with a single task has one.
        steps: environment steps taken.
        seconds: wall-clock time in the worker.
        seed: what `reset` was given.
        chain: index of the chain, or None for an episode with a single task.
        reward: sum of the rewards.
        policy_seconds: how much of the time the agent took to act, waiting for a server included.
        render_seconds: how much the cameras took, where the environment says it.
    """

    key: str
    attempts: tuple[Attempt, ...]
    steps: int
    seconds: float
    seed: int
    chain: int | None = None
    reward: float = 0.0
    policy_seconds: float = 0.0
    render_seconds: float = 0.0

    @property
    def completed(self) -> int:
        """Sub-tasks solved in a row."""
        return sum(attempt.success for attempt in self.attempts)


def wilson_interval(successes: float, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) when nothing was tried.

    Unlike the normal approximation it stays within [0, 1] and is not empty at 0 % or 100 %. Tries that belong together
    count as one with the share of them that succeeded: at worst the interval is then too wide.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"successes must be between 0 and total, got {successes} of {total}")
    if total == 0:
        return 0.0, 1.0
    rate = successes / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(values: Sequence[float], seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of the mean, the same for the same seed; (0, 0) for no values."""
    if len(values) == 0:
        return 0.0, 0.0
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    # Counts of the distinct values suffice, so that 1000 chains need no (resamples, 1000) matrix of indices.
    levels, counts = np.unique(data, return_counts=True)
    drawn = rng.multinomial(len(data), counts / len(data), size=resamples)  # (resamples, levels)
    low, high = np.percentile(drawn @ levels / len(data), [2.5, 97.5])
    return float(low), float(high)


def success_rates(episodes: Sequence[Episode], length: int) -> dict[str, dict[str, Any]]:
    """Shares of episodes that solved at least 1, ..., `length` sub-tasks: {"1": {"rate", "ci95"}}."""
    rates: dict[str, dict[str, Any]] = {}
    for needed in range(1, length + 1):
        solved = sum(episode.completed >= needed for episode in episodes)
        rate = solved / len(episodes) if episodes else 0.0
        rates[str(needed)] = {"rate": rate, "ci95": list(wilson_interval(solved, len(episodes)))}
    return rates


def average_length(episodes: Sequence[Episode], seed: int = 0) -> dict[str, Any]:
    """Mean number of sub-tasks solved in a row, with a bootstrap interval over episodes: {"mean", "ci95"}."""
    lengths = [float(episode.completed) for episode in episodes]
    mean = float(np.mean(lengths)) if lengths else 0.0
    return {"mean": mean, "ci95": list(bootstrap_interval(lengths, seed))}


def mean_return(episodes: Sequence[Episode], seed: int = 0) -> dict[str, Any]:
    """Mean sum of rewards of an episode, with a bootstrap interval over episodes: {"mean", "ci95"}."""
    rewards = [episode.reward for episode in episodes]
    mean = float(np.mean(rewards)) if rewards else 0.0
    return {"mean": mean, "ci95": list(bootstrap_interval(rewards, seed))}


def task_counts(episodes: Sequence[Episode]) -> dict[str, dict[str, int]]:
    """Per task, how often it was tried and solved: {task: {"success", "total"}}, sorted by name."""
    counts: dict[str, dict[str, int]] = {}
    for episode in episodes:
        for attempt in episode.attempts:
            entry = counts.setdefault(attempt.task, {"success": 0, "total": 0})
            entry["success"] += int(attempt.success)
            entry["total"] += 1
    return dict(sorted(counts.items()))


def task_group(task: str) -> str:
    """The family of a task: "fixtures" (door, drawer, lights), else its verb ("lift", "push")."""
    verb = task.split("_", 1)[0]
    if verb in ("open", "close", "turn") or task.startswith("move_slider"):
        return "fixtures"
    return verb


def mean_success(counts: dict[str, dict[str, int]]) -> float:
    """Mean over tasks of the tasks' success rates, each task weighing the same."""
    if not counts:
        return 0.0
    return float(np.mean([entry["success"] / entry["total"] for entry in counts.values()]))


def group_counts(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, dict[str, int]]]:
    """`counts` split by `task_group`, the groups in order of first appearance."""
    groups: dict[str, dict[str, dict[str, int]]] = {}
    for task, entry in counts.items():
        groups.setdefault(task_group(task), {})[task] = entry
    return groups
