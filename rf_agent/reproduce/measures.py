"""What stands in a table: rows of measurements, and claims about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rf_agent.evaluation.metrics import wilson_interval
from rf_agent.reproduce.results import Results, average_with_interval, difference, rates
from rf_agent.reproduce.stages import Stage

MISSING = "–"
"""Stands for what has not been measured yet."""


class Measure(Protocol):
    """Something measured by stages, as cells of a row."""

    @property
    def stages(self) -> Sequence[Stage]:
        """Those that it reads."""

    def cells(self, results: Results) -> list[str]:
        """Its text; `MISSING` where a stage has not finished."""


@dataclass(frozen=True)
class ChainRates:
    """Shares of chains that got 1 to 5 sub-tasks far (five cells), and the average length; a stage a seed."""

    stages: tuple[Stage, ...]

    def cells(self, results: Results) -> list[str]:
        """As "88 %" and "2.19 [1.90, 2.49]"."""
        completed = results.completed(self.stages)
        if completed is None:
            return [MISSING] * 6
        return [*(f"{100 * rate:.0f} %" for rate in rates(completed)), *AverageLength(self.stages).cells(results)]


@dataclass(frozen=True)
class AverageLength:
    """Average length with its interval; a stage a seed."""

    stages: tuple[Stage, ...]

    def cells(self, results: Results) -> list[str]:
        """As "2.19 [1.90, 2.49]", with several seeds also each one's."""
        completed = results.completed(self.stages)
        if completed is None:
            return [MISSING]
        each = f" ({', '.join(f'{np.mean(row):.2f}' for row in completed)})" if len(completed) > 1 else ""
        return [average_with_interval(completed) + each]


@dataclass(frozen=True)
class Curve:
    """Average length after each fifth of training, a cell each; `stages` are the five evaluations of one seed."""

    stages: tuple[Stage, ...]
    count: int
    """Chains that are read, from the first: the last evaluation plays more of them than the others."""

    def lengths(self, results: Results) -> list[float | None]:
        """None where an evaluation has not finished."""
        found = [results.completed([stage]) for stage in self.stages]
        return [None if completed is None else float(np.mean(completed[0][: self.count])) for completed in found]

    def cells(self, results: Results) -> list[str]:
        """As "1.05", which of few chains is rough."""
        return [MISSING if length is None else f"{length:.2f}" for length in self.lengths(results)]


@dataclass(frozen=True)
class BestAndMean:
    """The best of a curve, and the mean of its last three: two cells, as in the paper's Table 2."""

    curve: Curve

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the curve."""
        return self.curve.stages

    def cells(self, results: Results) -> list[str]:
        """As "1.05"."""
        lengths = [length for length in self.curve.lengths(results) if length is not None]
        if len(lengths) < len(self.stages):
            return [MISSING] * 2
        return [f"{max(lengths):.2f}", f"{np.mean(lengths[-3:]):.2f}"]


@dataclass(frozen=True)
class Fact:
    """A number that a stage measured, by its name."""

    stage: Stage
    name: str
    digits: int = 3
    scale: float = 1.0
    """Factor of what is shown: 100 for a share in per cent."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage."""
        return (self.stage,)

    def value(self, results: Results) -> float | None:
        """As it is shown, not yet rounded; None where it has not been measured."""
        found = (results.facts(self.stage) or {}).get(self.name)
        return None if found is None else self.scale * float(found)

    def cells(self, results: Results) -> list[str]:
        """As "0.470"."""
        value = self.value(results)
        return [MISSING if value is None else f"{value:.{self.digits}f}"]


@dataclass(frozen=True)
class Least:
    """Which of some stages measured the least of a number, by their names."""

    runs: tuple[Stage, ...]
    name: str
    names: tuple[str, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that it compares."""
        return self.runs

    def cells(self, results: Results) -> list[str]:
        """As "1e-3"; `MISSING` until all have measured it."""
        found = [(results.facts(run) or {}).get(self.name) for run in self.runs]
        return [MISSING if None in found else self.names[int(np.argmin(np.array(found, float)))]]


@dataclass(frozen=True)
class TaskRate:
    """How often a task was done, out of how many tries."""

    stage: Stage
    task: str

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage."""
        return (self.stage,)

    def cells(self, results: Results) -> list[str]:
        """As "2/3"."""
        facts = results.facts(self.stage)
        entry = None if facts is None else facts["tasks"].get(self.task)
        return [MISSING if entry is None else f"{entry['success']}/{entry['total']}"]


@dataclass(frozen=True)
class AllTasks:
    """How often all tasks together were done, with the interval."""

    stage: Stage

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage."""
        return (self.stage,)

    def cells(self, results: Results) -> list[str]:
        """As "41 % [32, 51]"."""
        facts = results.facts(self.stage)
        if facts is None:
            return [MISSING]
        solved, total = (sum(entry[key] for entry in facts["tasks"].values()) for key in ("success", "total"))
        low, high = wilson_interval(solved, total)
        return [f"{100 * solved / max(total, 1):.0f} % [{100 * low:.0f}, {100 * high:.0f}]"]


@dataclass(frozen=True)
class Blank:
    """Empty cells of a row of which the paper alone has numbers."""

    count: int
    stages: tuple[Stage, ...] = ()

    def cells(self, results: Results) -> list[str]:
        """Nothing."""
        return [""] * self.count


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    label: tuple[str, ...]
    """Its first cells: method, training data, ..."""
    measures: tuple[Measure, ...] = ()
    paper: tuple[str, ...] = ()
    """Its last cells: the paper's numbers."""

    @property
    def stages(self) -> list[Stage]:
        """All that it needs."""
        return [stage for measure in self.measures for stage in measure.stages]

    def cells(self, results: Results) -> list[str]:
        """The whole line."""
        return [*self.label, *(cell for measure in self.measures for cell in measure.cells(results)), *self.paper]


@dataclass(frozen=True)
class Claim:
    """Something that the paper says, as a difference in average length."""

    text: str
    better: tuple[Stage, ...]
    """Evaluations of the policy that is said to be better, one a seed."""
    worse: tuple[Stage, ...]
    at_least: bool = False
    """Whether it is only said to be no worse."""
    of_paper: bool = True
    """Whether the paper says so; else it is asked here besides."""

    @property
    def stages(self) -> list[Stage]:
        """All that it compares."""
        return [*self.better, *self.worse]

    def verdict(self, results: Results) -> str:
        """Whether it holds here, in a sentence with the difference and its interval."""
        first, second = results.completed(self.better), results.completed(self.worse)
        if first is None or second is None:
            return f"{self.text}: not measured yet."
        found = difference(first, second)
        low, high = found.interval
        numbers = f"{found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        if len(first) > 1 or len(second) > 1:
            numbers += f", of {len(first)} and {len(second)} seeds"
        if found.decided:
            return f"{self.text}: **{'holds' if found.mean > 0 else 'does not hold'}** ({numbers})."
        undecided = "nothing speaks against it" if self.at_least and found.mean >= 0 else "not decided"
        told = f"the permutation test does not find it, p = {found.p:.2g}"
        why = "the interval has zero in it" if low <= 0 <= high else told
        return f"{self.text}: **{undecided}** ({numbers}; {why})."


@dataclass(frozen=True)
class FactClaim:
    """Something that the paper says, as a larger number; of one measurement each, without an interval."""

    text: str
    better: Fact
    worse: Fact
    of_paper: bool = True
    """As of `Claim`."""

    @property
    def stages(self) -> list[Stage]:
        """All that it compares."""
        return [*self.better.stages, *self.worse.stages]

    def verdict(self, results: Results) -> str:
        """Which number is larger here, in a sentence with both."""
        first, second = self.better.value(results), self.worse.value(results)
        if first is None or second is None:
            return f"{self.text}: not measured yet."
        verdict = "no difference" if first == second else "so it is" if first > second else "it is not so"
        numbers = " against ".join(cell for fact in (self.better, self.worse) for cell in fact.cells(results))
        return f"{self.text}: **{verdict}** ({numbers}, one run each, without an interval)."


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper in miniature."""

    name: str
    """What the command calls it."""
    title: str
    source: str
    """Which table or figure of the paper."""
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim | FactClaim, ...] = ()
    notes: str = ""
    """What a reader must know, in sentences."""
    seeds: tuple[int, ...] = (0,)
    """Of the training of its policies."""
    one_seed: bool = False
    """Whether it is made with the first seed alone."""

    @property
    def stages(self) -> list[Stage]:
        """All that its rows and claims need."""
        claimed = [stage for claim in self.claims for stage in claim.stages]
        return [*(stage for row in self.rows for stage in row.stages), *claimed]


@dataclass(frozen=True)
class Measured:
    """A table, and the reproduction that all of its rows are of."""

    table: Table
    results: Results
