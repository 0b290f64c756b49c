"""What an evaluation says: `results.json` for programs and tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from rf_agent.evaluation import metrics
from rf_agent.evaluation.metrics import Episode
from rf_agent.versions import versions


def build_results(
    episodes: Sequence[Episode],
    *,
    env: str,
    env_options: Mapping[str, Any],
    policy: str,
    seed: int,
    renderer: str,
    seconds: float,
    length: int,
    weights: str | None = None,
    execution: Mapping[str, Any] | None = None,
    requested: Mapping[str, Any] | None = None,
    shard: str | None = None,
) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        episodes: finished episodes, in any order.
        length: sub-tasks in an episode: 5 for chains, 1 for single tasks (whose `sequences` stay empty).
        seconds: wall-clock time of the evaluation.
        weights: digest of the checkpoint.
        execution: how the policy acted; none for scripted agents.
        requested: what the whole evaluation is, all shards together: `chains`, or `tasks` and `episodes_per_task`.
        shard: which part of it this is, such as "1/3"; None for all.
    """
    tried = any(episode.attempts for episode in episodes)  # some environments know no success
    chains = sorted((e for e in episodes if e.chain is not None), key=lambda e: e.chain or 0)
    return {
        "env": env,
        "env_options": dict(env_options),
        "policy": policy,
        "weights": weights,
        "execution": dict(execution or {}),
        "seed": seed,
        "episodes": len(episodes),
        "chains": len(chains),
        "requested": dict(requested or {}),
        "shard": shard,
        "success_rate": metrics.success_rates(episodes if tried else (), length),
        "average_length": metrics.average_length(episodes if tried else (), seed),
        "return": metrics.mean_return(episodes, seed),
        "tasks": metrics.task_counts(episodes),
        "sequences": [{"chain": e.chain, "completed": e.completed, "steps": e.steps} for e in chains],
        "renderer": renderer,
        "versions": versions(),
        "seconds": round(seconds, 1),
    }


def percent(rate: float) -> str:
    """`0.925` as "92.5 %"."""
    return f"{100 * rate:.1f} %"


def interval(low: float, high: float) -> str:
    """A rate's interval as "84.1 – 96.5"."""
    return f"{100 * low:.1f} – {100 * high:.1f}"


def task_table(counts: dict[str, dict[str, int]]) -> Table:
    """A row per task, under each family of tasks its mean, at the end the mean over all tasks."""
    table = Table("task", "solved", "success", "95 % interval", title="Success per task")
    for column in table.columns[1:]:
        column.justify = "right"
    groups = metrics.group_counts(counts)
    for group, members in groups.items():
        for task, entry in members.items():
            solved, total = entry["success"], entry["total"]
            ends = interval(*metrics.wilson_interval(solved, total))
            table.add_row(escape(task), f"{solved}/{total}", percent(solved / total), ends)
        _add_mean(table, f"{group}: mean of {len(members)}", members)
        table.add_section()
    _add_mean(table, f"all: mean of {len(counts)}", counts)
    return table


def chain_table(results: dict[str, Any]) -> Table:
    """CALVIN's table: how many chains got 1, 2, ... sub-tasks far, and the average length."""
    table = Table("sub-tasks in a row", "success", "95 % interval", title=f"{results['chains']} chains")
    for column in table.columns[1:]:
        column.justify = "right"
    for needed, entry in results["success_rate"].items():
        table.add_row(needed, percent(entry["rate"]), interval(*entry["ci95"]))
    table.add_section()
    average = results["average_length"]
    low, high = average["ci95"]
    table.add_row("average length", f"{average['mean']:.2f}", f"{low:.2f} – {high:.2f}", style="bold")
    return table


def return_line(mean_return: Mapping[str, Any]) -> str:
    """The mean sum of rewards with its interval, in words."""
    low, high = mean_return["ci95"]
    return f"mean return {mean_return['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _add_mean(table: Table, name: str, counts: dict[str, dict[str, int]]) -> None:
    solved, total = (sum(entry[key] for entry in counts.values()) for key in ("success", "total"))
    # of tasks that were tried unequally often, the share of all attempts is another number than the mean of the tasks
    equal = len({entry["total"] for entry in counts.values()}) == 1
    ends = interval(*metrics.wilson_interval(solved, total)) if equal else ""
    table.add_row(name, f"{solved}/{total}", percent(metrics.mean_success(counts)), ends, style="bold")
