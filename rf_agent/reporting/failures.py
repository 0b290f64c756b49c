"""Where episodes fail: which task breaks chains, after which task, at which place, and how many steps it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rf_agent.evaluation.metrics import Attempt, Episode, task_group

START = "start"
"""Stands for the task before the first one of a chain."""
BINS = 18


@dataclass(frozen=True)
class Count:
    """How often something was tried and failed."""

    tried: int
    failed: int


@dataclass(frozen=True)
class StepHistogram:
    """Environment steps that attempts took, in bins of equal width."""

    width: int
    solved: list[int]
    failed: list[int]
    medians: tuple[float | None, float | None]
    """Of solved and of failed attempts; None where there are none."""


def _transitions(episodes: Iterable[Episode]) -> Iterable[tuple[str, Attempt]]:
    """Every attempt with the task before it."""
    for episode in episodes:
        before = START
        for attempt in episode.attempts:
            yield before, attempt
            before = attempt.task


def by_position(episodes: Sequence[Episode], length: int) -> list[Count]:
    """For the first, second, ... sub-task: how many chains came so far, and how many of them failed there."""
    counts = []
    for position in range(length):
        reached = [episode.attempts[position] for episode in episodes if len(episode.attempts) > position]
        counts.append(Count(len(reached), sum(not attempt.success for attempt in reached)))
    return counts


def by_task(episodes: Iterable[Episode]) -> dict[str, Count]:
    """Per task, those that failed most often first. In chains a failure ends the chain."""
    return _counted((attempt.task, attempt) for _, attempt in _transitions(episodes))


def by_transition(episodes: Iterable[Episode]) -> dict[tuple[str, str], Count]:
    """Per (task before, task), those that failed most often first."""
    return _counted(((before, attempt.task), attempt) for before, attempt in _transitions(episodes))


def by_family(episodes: Iterable[Episode]) -> dict[tuple[str, str], Count]:
    """Per (family of the task before, family of the task); families are those of `task_group`."""
    pairs = (
        ((START if before == START else task_group(before), task_group(attempt.task)), attempt)
        for before, attempt in _transitions(episodes)
    )
    return _counted(pairs)


def _counted(attempts: Iterable[tuple]) -> dict:
    counts: dict = {}
    for key, attempt in attempts:
        count = counts.get(key, Count(0, 0))
        counts[key] = Count(count.tried + 1, count.failed + (not attempt.success))
    return dict(sorted(counts.items(), key=lambda item: (-item[1].failed, -item[1].failed / item[1].tried, item[0])))


def step_histogram(episodes: Iterable[Episode]) -> StepHistogram | None:
    """Steps of all attempts; None where the records do not have them, as those of earlier versions."""
    attempts = [attempt for episode in episodes for attempt in episode.attempts if attempt.steps > 0]
    if not attempts:
        return None
    most = max(attempt.steps for attempt in attempts)
    width = max(1, -(-most // BINS))
    counts, medians = [], []
    for success in (True, False):
        steps = [attempt.steps for attempt in attempts if attempt.success is success]
        binned = np.bincount([(number - 1) // width for number in steps], minlength=-(-most // width))
        counts.append([int(count) for count in binned])
        medians.append(float(np.median(steps)) if steps else None)
    return StepHistogram(width, counts[0], counts[1], (medians[0], medians[1]))
