"""A report of evaluations as one HTML page that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rf_agent.evaluation import metrics
from rf_agent.evaluation.results import percent
from rf_agent.files import write_text
from rf_agent.reporting import failures, paper, svg, tables
from rf_agent.reporting.clips import Clip, embedded, linked
from rf_agent.reporting.compare import PAIRWISE, Difference, compare, differing_conditions
from rf_agent.reporting.page_conditions import conditions
from rf_agent.reporting.runs import Run

SHOWN = 12
"""Rows of a long table that are seen at once; the rest unfolds."""
MATRIX = 12
"""Families of tasks up to which a matrix of them is readable."""


@dataclass(frozen=True)
class Figure:
    """A headline number."""

    value: str
    unit: str
    name: str
    interval: str


def render(runs: Sequence[Run], clips: Sequence[Clip] = (), source: Callable[[Clip], str] = embedded) -> str:
    """The page.

    Args:
        runs: what it is about; with several, each against each.
        clips: videos that it shows.
        source: where a video is found, a URL or the video itself.
    """
    environment = Environment(
        loader=PackageLoader("rf_agent.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": percent, "breakable": breakable, "p": tables.p_value}
    environment.filters |= {"plural": plural, "signed": signed}
    chained = [(number, run) for number, run in enumerate(runs) if run.chained and run.scored]
    groups = _task_groups(runs)
    return environment.get_template("report.html").render(
        title=_title(runs),
        runs=[_run(number, run) for number, run in enumerate(runs)],
        several=len(runs) > 1,
        unlike=differing_conditions(runs),
        differences=_by_pair(compare(runs)),
        curve=_curve(chained) if chained else None,
        chains=[_chain_row(number, run) for number, run in chained],
        length=max((run.length for _, run in chained), default=0),
        paper_rows=_paper_rows([run for _, run in chained]),
        paper=paper,
        groups=groups,
        task_means=[_mean_cell(number, run) for number, run in enumerate(runs) if run.scored],
        with_paper=paper.are_calvins(tables.tasks(runs)),
        clips=[_clip(clip, runs, source) for clip in clips],
        conditions=conditions(runs),
        shown=SHOWN,
        pairwise=PAIRWISE,
    )


def breakable(name: str) -> Markup:
    """A name that may be broken after `_` and `/`, so that it fits on a phone."""
    return Markup(str(escape(name)).replace("_", "_<wbr>").replace("/", "/<wbr>"))


def plural(count: int, noun: str) -> str:
    """`1 chain`, `2 chains`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def signed(value: float, digits: int) -> str:
    """A difference with its sign, unless it is zero."""
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def _title(runs: Sequence[Run]) -> str:
    envs = " and ".join(dict.fromkeys(run.settings.get("env", "unknown").rpartition(":")[2] for run in runs))
    return f"{runs[0].label} on {envs}" if len(runs) == 1 else f"{len(runs)} evaluations on {envs}"


def _run(number: int, run: Run) -> dict[str, Any]:
    chains = "chain" if run.chained else "episode"
    broken = [episode for episode in run.episodes if run.scored and episode.completed < run.length]
    families = failures.by_family(run.episodes)
    before = [name for name in dict.fromkeys(pair[0] for pair in families) if name != failures.START]
    return {
        "run": run,
        "class": svg.run_class(number),
        "figures": _figures(run),
        "count": plural(len(run.episodes), chains) + ("" if run.total in (None, len(run.episodes)) else " so far"),
        "noun": chains,
        "broken": broken,
        "positions": failures.by_position(run.episodes, run.length) if run.chained else [],
        "by_task": _failed(failures.by_task(run.episodes)),
        "by_transition": _failed(failures.by_transition(run.episodes)) if run.chained else [],
        "families": families,
        "rows": [failures.START, *sorted(before)],
        "columns": sorted({pair[1] for pair in families}),
        "matrix": run.chained and len({name for pair in families for name in pair}) <= MATRIX,
        "steps": _steps(run),
        "rate": lambda count: metrics.wilson_interval(count.failed, count.tried),
    }


def _failed(counts: dict) -> list:
    return [(key, count) for key, count in counts.items() if count.failed]


def _figures(run: Run) -> list[Figure]:
    if not run.scored:
        mean, low, high = tables.mean_return(run)
        return [Figure(f"{mean:.2f}", "", "mean return", f"{low:.2f} – {high:.2f}")]
    rates = metrics.success_rates(run.episodes, run.length)
    if not run.chained:
        mean = metrics.mean_success(metrics.task_counts(run.episodes))
        return [_rate_figure(rates["1"], "success"), Figure(f"{100 * mean:.1f}", "%", "mean over tasks", "")]
    mean, low, high = tables.average_length(run)
    first = Figure(f"{mean:.2f}", f"of {run.length}", "average length", f"{low:.2f} – {high:.2f}")
    ends = dict.fromkeys(("1", str(run.length)))
    return [first, *(_rate_figure(rates[needed], f"{needed} in a row") for needed in ends)]


def _rate_figure(entry: dict[str, Any], name: str) -> Figure:
    low, high = (100 * end for end in entry["ci95"])
    return Figure(f"{100 * entry['rate']:.1f}", "%", name, f"{low:.1f} – {high:.1f} %")


def _chain_row(number: int, run: Run) -> dict[str, Any]:
    return {
        "class": svg.run_class(number),
        "label": run.label,
        "count": len(run.episodes),
        "rates": list(metrics.success_rates(run.episodes, run.length).values()),
        "length": tables.average_length(run),
    }


def _curve(chained: Sequence[tuple[int, Run]]) -> Markup:
    series = []
    for _, run in chained:
        rates: list[dict[str, Any]] = list(metrics.success_rates(run.episodes, run.length).values())
        series.append(svg.Series(run.label, [one["rate"] for one in rates], [tuple(one["ci95"]) for one in rates]))
    reference = None
    rows = _paper_rows([run for _, run in chained])
    if rows and all(run.length == len(rows[0].rates) for _, run in chained):
        row = paper.reference_row(rows[0].enriched)
        reference = svg.Series(row.name, row.rates, [(rate, rate) for rate in row.rates])
    return svg.chain_curve(series, reference, [number for number, _ in chained])


def _paper_rows(runs: Sequence[Run]) -> list[paper.ChainRow]:
    if not paper.are_calvins(tables.tasks(runs)) or max(run.length for run in runs) < metrics.CHAIN_LENGTH:
        return []
    return paper.chain_rows(all(map(tables.is_enriched, runs)))


def _task_groups(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The tasks by family, a row each: its name, its bars, what each run did, the paper's rate."""
    scored = [(number, run) for number, run in enumerate(runs) if run.scored]
    counts = {number: metrics.task_counts(run.episodes) for number, run in scored}
    names = tables.tasks(runs)
    with_paper = paper.are_calvins(names)
    groups: dict[str, list[dict[str, Any]]] = {}
    for task in names:
        rate = paper.task_rate(task) if with_paper else None
        cells = [_task_cell(counts[number].get(task)) for number, _ in scored]
        bars = [(number, cell["rate"], cell["ends"]) for (number, _), cell in zip(scored, cells, strict=True) if cell]
        says = ", ".join(f"{runs[number].label} {percent(value)}" for number, value, _ in bars)
        row = {"task": task, "bars": svg.rate_bars(bars, says, rate), "cells": cells, "paper": rate}
        groups.setdefault(metrics.task_group(task), []).append(row)
    return [{"name": name, "rows": rows} for name, rows in groups.items()]


def _task_cell(count: dict[str, int] | None) -> dict[str, Any] | None:
    if count is None:
        return None
    solved, total = count["success"], count["total"]
    return count | {"rate": solved / total, "ends": metrics.wilson_interval(solved, total)}


def _mean_cell(number: int, run: Run) -> dict[str, Any]:
    counts = metrics.task_counts(run.episodes)
    return {"mean": metrics.mean_success(counts), "tasks": len(counts)}


def _steps(run: Run) -> dict[str, Any] | None:
    found = failures.step_histogram(run.episodes)
    if found is None:
        return None
    return {"plot": svg.step_bars(found.width, found.solved, found.failed), "medians": found.medians}


def _by_pair(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Tests of the same two runs together."""
    pairs: dict[tuple[str, str], list[Difference]] = {}
    for test in differences:
        pairs.setdefault((test.first, test.second), []).append(test)
    return [{"first": first, "second": second, "tests": tests} for (first, second), tests in pairs.items()]


def _clip(clip: Clip, runs: Sequence[Run], source: Callable[[Clip], str]) -> dict[str, Any]:
    run = runs[clip.run]
    outcome = ("solved" if clip.solved else "failed") if run.scored else "not scored"
    if run.chained:
        outcome = f"{clip.episode.completed} of {run.length} solved"
    return {
        "clip": clip,
        "label": run.label,
        "class": svg.run_class(clip.run),
        "outcome": outcome,
        "source": source(clip),
    }


def write_page(path: Path, runs: Sequence[Run], clips: Sequence[Clip], link: bool) -> None:
    """Write the page to `path`; with `link` the videos stay where they are."""
    write_text(path, render(runs, clips, partial(linked, page=path) if link else embedded))
