"""Under which conditions evaluations were played, as the rows of a table with a column for each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rf_agent.progress import duration
from rf_agent.reporting.runs import Run

UNKNOWN = "not recorded"
OWN = ("episodes", "shards", "wall-clock time", "of which policy", "of which cameras", "folder")
"""What every run has its own of, and which changes no score."""


@dataclass(frozen=True)
class Condition:
    """A row: a name and a value for each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs disagree in something that may change scores."""
        return self.name not in OWN and len(set(self.values)) > 1


def conditions(runs: Sequence[Run]) -> list[Condition]:
    """Environment, policy, way of acting, size, time and versions of every run."""
    facts: dict[str, Callable[[Run], str]] = {
        "environment": lambda run: _setting(run, "env"),
        "options": lambda run: _options(run.settings.get("env_options") or {}) or "none",
        "renderer": lambda run: _setting(run, "renderer"),
        "seed": lambda run: _setting(run, "seed"),
        "policy": lambda run: _setting(run, "policy"),
        "weights (digest)": lambda run: _setting(run, "weights"),
        "execution": lambda run: _options(run.execution) or "as the policy is",
        "episodes": lambda run: f"{len(run.episodes)} of {UNKNOWN if run.total is None else run.total}",
        "shards": lambda run: ", ".join(run.shards) or "in one piece",
        "wall-clock time": lambda run: duration(run.seconds),
        "of which policy": lambda run: _share(run, "policy_seconds"),
        "of which cameras": lambda run: _share(run, "render_seconds"),
        "folder": lambda run: ", ".join(map(str, run.folders)),
    }
    rows = [Condition(name, tuple(map(fact, runs))) for name, fact in facts.items()]
    packages = dict.fromkeys(name for run in runs for name in run.versions)
    rows += [Condition(name, tuple(run.versions.get(name, UNKNOWN) for run in runs)) for name in packages]
    return rows


def _setting(run: Run, name: str) -> str:
    value = run.settings.get(name)
    return UNKNOWN if value is None else str(value)


def _options(options: dict) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.items()
        if value is not None
    )


def _share(run: Run, name: str) -> str:
    """Share of the episodes' time; records of earlier versions do not have it."""
    spent, total = sum(getattr(one, name) for one in run.episodes), sum(one.seconds for one in run.episodes)
    return f"{100 * spent / total:.0f} %" if spent and total else UNKNOWN
