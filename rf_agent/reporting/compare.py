"""Which differences between evaluations are more than chance: paired tests on the episodes that both have played."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rf_agent.evaluation.metrics import Episode, bootstrap_interval
from rf_agent.reporting.runs import Run

PAIRWISE = 4
"""Runs up to which each is compared with each; of more runs each is compared with the first."""
LEVEL = 0.05
"""Differences whose corrected p is below are called significant."""
DRAWS = 20_000
"""Random sign flips where the values are no whole numbers; those of whole numbers are counted exactly."""
MOST_COUNTED = 50_000_000
"""Differences times the sum of their sizes up to which sign choices are counted, in about a second."""
CONDITIONS = {
    "env": "environment",
    "env_options": "options of the environment (wording, image size, …)",
    "renderer": "renderer",
    "seed": "seed of the scenes",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The second run against the first, in one measure."""

    first: str
    second: str
    measure: str
    """"average length", "1 in a row", …, "success" or "return"."""
    is_rate: bool
    """Whether the measure is a share of the episodes."""
    pairs: int
    """Episodes that both have played."""
    means: tuple[float, float]
    """Of the first and of the second, over these episodes."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the mean difference."""
    p: float
    """Of the paired test alone."""
    corrected: float = 1.0
    """Holm's p over all tests of the report."""

    @property
    def mean(self) -> float:
        """Second minus first."""
        return self.means[1] - self.means[0]

    @property
    def significant(self) -> bool:
        """Whether it is more than chance, all tests of the report considered."""
        return self.corrected < LEVEL


def compare(runs: Sequence[Run]) -> list[Difference]:
    """Every run against every earlier one, or against the first where there are many.

    Runs without an episode in common are left out.
    """
    pairs = [(i, j) for i, j in itertools.combinations(range(len(runs)), 2) if i == 0 or len(runs) <= PAIRWISE]
    found = [test for i, j in pairs for test in _compare(runs[i], runs[j])]
    corrected = holm([test.p for test in found])
    return [replace(test, corrected=p) for test, p in zip(found, corrected, strict=True)]


def differing_conditions(runs: Sequence[Run]) -> list[str]:
    """What differs between the runs beside the policy, in words; scores of different conditions do not compare."""
    return [
        f"{words} ({', '.join(dict.fromkeys(str(run.settings.get(name)) for run in runs))})"
        for name, words in CONDITIONS.items()
        if any(run.settings.get(name) != runs[0].settings.get(name) for run in runs)
    ]


def _compare(first: Run, second: Run) -> list[Difference]:
    others = {_start(episode): episode for episode in second.episodes}
    pairs = [(episode, others[_start(episode)]) for episode in first.episodes if _start(episode) in others]
    if not pairs:
        return []
    if not (first.scored and second.scored):
        return [_test(first, second, pairs, "return", lambda episode: episode.reward)]
    if not first.chained:
        return [_test(first, second, pairs, "success", lambda episode: episode.completed > 0)]
    measures: dict[str, Callable[[Episode], float]] = {"average length": lambda episode: episode.completed}
    for needed in range(1, min(first.length, second.length) + 1):
        measures[f"{needed} in a row"] = lambda episode, needed=needed: episode.completed >= needed  # type: ignore[misc]
    return [_test(first, second, pairs, name, measure) for name, measure in measures.items()]


def _start(episode: Episode) -> tuple[str, int | None]:
    """Equal for episodes that begin alike: a chain has its own start, an episode of a task that of its seed."""
    return episode.key, None if episode.chain is not None else episode.seed


def _test(
    first: Run,
    second: Run,
    pairs: list[tuple[Episode, Episode]],
    name: str,
    measure: Callable[[Episode], float],
) -> Difference:
    values = np.array([[float(measure(episode)) for episode in pair] for pair in pairs])  # (pairs, 2)
    differences = values[:, 1] - values[:, 0]
    is_rate = name not in ("average length", "return")
    p = mcnemar_p(int((differences > 0).sum()), int((differences < 0).sum())) if is_rate else sign_flip_p(differences)
    return Difference(
        first=first.label,
        second=second.label,
        measure=name,
        is_rate=is_rate,
        pairs=len(pairs),
        means=(float(values[:, 0].mean()), float(values[:, 1].mean())),
        interval=bootstrap_interval(differences.tolist()),
        p=p,
    )


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test: the episodes that changed are as likely gained as lost.

    Args:
        gained: episodes that only the second run solved.
        lost: episodes that only the first run solved.
    """
    changed = gained + lost
    tail = sum(math.comb(changed, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def sign_flip_p(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p of the paired permutation test of a mean difference: each difference may as well have the other sign.

    Exact for whole numbers of which that takes little, by counting the sums of all sign choices; of `DRAWS` random
    choices otherwise.
    """
    sizes = np.abs(differences[differences != 0])
    observed = abs(float(differences.sum()))
    if np.array_equal(sizes, np.round(sizes)) and len(sizes) * sizes.sum() <= MOST_COUNTED:
        chances = np.ones(1)  # of the sums -n, -n + 1, ..., n of n = sum of the sizes so far
        for size in sizes.astype(int):
            flipped = np.zeros(len(chances) + 2 * size)
            flipped[: len(chances)] += chances / 2
            flipped[2 * size :] += chances / 2
            chances = flipped
        sums = np.arange(len(chances)) - len(chances) // 2
        return min(1.0, float(chances[np.abs(sums) >= observed].sum()))
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(DRAWS // 1000):
        signs = rng.integers(0, 2, (1000, len(sizes)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ sizes) >= observed * (1 - 1e-9)).sum())
    return (1 + extreme) / (1 + DRAWS)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction: p values that hold for all tests together."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, largest = [1.0] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected
