"""What stages measured, in one file that tables are made of."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.errors import UserError
from rf_agent.evaluation.metrics import CHAIN_LENGTH, bootstrap_interval
from rf_agent.files import write_json
from rf_agent.reporting.compare import sign_flip_p
from rf_agent.reproduce.recipe import Recipe
from rf_agent.reproduce.stages import Stage
from rf_agent.training.curves import read_log
from rf_agent.versions import versions

FILE = "results.json"
RESAMPLES = 10_000


@dataclass
class Results:
    """Of each finished stage its command, its cost and what it measured."""

    recipe: Recipe
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By folder: `command`, `seconds`, `facts`, and `revision` where it was kept."""
    machine: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, recipe: Recipe) -> Results:
        """Those of a reproduction's folder, empty for a new one."""
        path = folder / FILE
        return cls.load(path) if path.exists() else cls(recipe, machine={"cores": os.cpu_count(), **versions()})

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote.

        Raises:
            UserError: the file is not there, or is none.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            stages = {name: dict(entry) for name, entry in content["stages"].items()}
            return cls(Recipe(**content["recipe"]), stages, dict(content["machine"]))
        except FileNotFoundError as error:
            raise UserError(f"there is no {path}: give the results.json of `rf-agent reproduce`") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is no results.json of `rf-agent reproduce` ({error})") from error

    def save(self, folder: Path) -> None:
        """Write all of it to the folder."""
        stages = dict(sorted(self.stages.items()))
        recipe = dataclasses.asdict(self.recipe)
        write_json(folder / FILE, {"recipe": recipe, "machine": self.machine, "stages": stages})

    def add(self, stage: Stage, seconds: float, facts: dict[str, Any], revision: str | None = None) -> None:
        """What a stage measured, and the commit or version of the code that it ran with."""
        entry = {"command": stage.command, "seconds": seconds, "facts": facts}
        self.stages[stage.folder] = entry if revision is None else entry | {"revision": revision}

    def facts(self, stage: Stage) -> dict[str, Any] | None:
        """What a stage measured; None if it has not finished, or was made by another command."""
        entry = self.stages.get(stage.folder)
        return entry["facts"] if entry is not None and entry["command"] == stage.command else None

    def completed(self, stages: Sequence[Stage]) -> list[list[int]] | None:
        """Sub-tasks done in each chain, a list for each evaluation; None while one is missing."""
        found = [self.facts(stage) for stage in stages]
        return [facts["completed"] for facts in found if facts] if all(found) else None


def facts_of(stage: Stage, folder: Path) -> dict[str, Any]:
    """What a finished stage measured, read from its folder."""
    if stage.kind == "evaluate":
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        return {"completed": [entry["completed"] for entry in results["sequences"]], "tasks": results["tasks"]}
    if stage.kind == "evaluate-vl":
        return dict(json.loads((folder / "results.json").read_text(encoding="utf-8"))["scores"])
    if stage.kind in ("train", "pretrain"):
        validations = [row for row in read_log(folder) if row["split"] == "validation"]
        return validations[-1] if validations else {}
    return {}


def average(completed: Sequence[Sequence[int]]) -> tuple[float, tuple[float, float]]:
    """Average length over all chains and seeds, with its 95 % bootstrap interval, see `_interval`."""
    lengths = np.array(completed, float)
    return float(lengths.mean()), _interval(lengths)


def average_with_interval(completed: Sequence[Sequence[int]]) -> str:
    """As "2.19 [1.90, 2.49]"."""
    mean, (low, high) = average(completed)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def rates(completed: Sequence[Sequence[int]]) -> list[float]:
    """Shares of chains that got 1 to 5 sub-tasks far."""
    return [float((np.asarray(completed) >= needed).mean()) for needed in range(1, CHAIN_LENGTH + 1)]


@dataclass(frozen=True)
class Difference:
    """First minus second in average length, on the chains that both played."""

    mean: float
    interval: tuple[float, float]
    """95 % bootstrap interval, see `_interval`."""
    p: float
    """Of the paired permutation test over chains."""

    @property
    def decided(self) -> bool:
        """Whether it is told from zero: by the interval, and by the test, which few unequal chains do not mislead."""
        return (self.interval[0] > 0 or self.interval[1] < 0) and self.p < 0.05


def difference(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> Difference:
    """Compare two methods, each by the evaluations of its seeds."""
    count = min(len(first[0]), len(second[0]))
    a, b = (np.array([row[:count] for row in rows], float) for rows in (first, second))
    pairs = a.mean(axis=0) - b.mean(axis=0)
    return Difference(float(pairs.mean()), _interval(a, b), sign_flip_p(pairs))


def _interval(first: NDArray[np.float64], second: NDArray[np.float64] | None = None) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of runs (seeds, chains), or of its lead over that of others.

    Chains are drawn anew, the same for all runs, and where there are several seeds these, too: a method whose seeds
    differ has a wider one. With one seed it says nothing of what another would do.
    """
    if len(first) == 1 and (second is None or len(second) == 1):
        return bootstrap_interval((first[0] if second is None else first[0] - second[0]).tolist())
    rng = np.random.default_rng(0)
    count = first.shape[1]
    means = []
    for _ in range(RESAMPLES // 1000):  # in parts, for memory
        chains = _shares(count, rng)
        drawn = _shares(len(first), rng) @ first  # (1000, chains), as are all of these
        if second is not None:
            drawn -= _shares(len(second), rng) @ second
        means.append((drawn * chains).sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _shares(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How large a share each of so many things has of as many that are drawn with replacement: (1000, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size=1000) / count
