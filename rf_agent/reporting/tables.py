"""Evaluations as tables for a paper: LaTeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rf_agent.evaluation import metrics
from rf_agent.reporting import paper
from rf_agent.reporting.compare import Difference, compare, differing_conditions
from rf_agent.reporting.runs import Run

CSV_COLUMNS = ("run", "measure", "value", "low", "high", "solved", "total", "against", "p", "p_holm")
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a row's end it would begin an argument
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "→": r"$\rightarrow$",
    "…": r"\ldots{}",
} | {mark: f"\\{mark}" for mark in "&%$#_"}


@dataclass(frozen=True)
class Table:
    """Cells of text under a title; the first column is of names, the others of numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables(runs: Sequence[Run]) -> list[Table]:
    """Chains, single tasks, returns and comparisons, as far as the runs have them."""
    chained = [run for run in runs if run.chained and run.scored]
    single = [run for run in runs if not run.chained and run.scored]
    found = [chain_table(chained)] if chained else []
    found += [single_table(single)] if single else []
    found += [return_table(unscored)] if (unscored := [run for run in runs if not run.scored]) else []
    found += [task_table([*chained, *single])] if chained or single else []
    differences = compare(runs)
    if differences:
        return [*found, comparison_table(differences, runs)]
    if found and (conditions := differing_conditions(runs)):
        found[0] = replace(found[0], notes=(*found[0].notes, _also(conditions)))
    return found


def chain_table(runs: Sequence[Run]) -> Table:
    """The paper's Table 1: shares of chains that got 1 to 5 sub-tasks far, and the average length."""
    length = max(run.length for run in runs)
    rows = []
    for run in runs:
        rates = metrics.success_rates(run.episodes, run.length)
        cells = [measured(entry["rate"], *entry["ci95"]) for entry in rates.values()]
        mean, low, high = average_length(run)
        cells += [""] * (length - len(cells))
        rows.append((run.label, str(len(run.episodes)), *cells, measured(mean, low, high, 2)))
    with_paper = length >= metrics.CHAIN_LENGTH and paper.are_calvins(tasks(runs))
    if with_paper:
        for row in paper.chain_rows(all(is_enriched(run) for run in runs)):
            rates_of_paper = [f"{rate:.3f}" for rate in row.rates] + [""] * (length - 5)
            rows.append((f"{row.name} (paper)", "1000", *rates_of_paper, f"{row.average_length:.2f}"))
    columns = ("Method", "Chains", *map(str, range(1, length + 1)), "Avg. len.")
    title = "Sub-tasks completed in a row (success rate), 95 % intervals in brackets"
    return Table(title, columns, tuple(rows), (*_notes(runs), *([paper.NOTE] if with_paper else [])))


def single_table(runs: Sequence[Run]) -> Table:
    """Success over all episodes with a single task."""
    rows = []
    for run in runs:
        solved, total = sum(episode.completed > 0 for episode in run.episodes), len(run.episodes)
        rate = measured(solved / total, *metrics.wilson_interval(solved, total))
        mean = metrics.mean_success(metrics.task_counts(run.episodes))
        rows.append((run.label, str(total), rate, f"{mean:.3f}"))
    columns = ("Method", "Episodes", "Success", "Mean over tasks")
    return Table("Success rate of single tasks, 95 % intervals in brackets", columns, tuple(rows), _notes(runs))


def return_table(runs: Sequence[Run]) -> Table:
    """Mean sum of rewards, for environments that know no success."""
    rows = [(run.label, str(len(run.episodes)), measured(*mean_return(run))) for run in runs]
    return Table("Mean return, 95 % intervals in brackets", ("Method", "Episodes", "Return"), tuple(rows), _notes(runs))


def task_table(runs: Sequence[Run]) -> Table:
    """The paper's Table 9: success rate of each task, with the paper's where the tasks are CALVIN's."""
    counts = [metrics.task_counts(run.episodes) for run in runs]
    names = tasks(runs)
    with_paper = paper.are_calvins(names)
    rows = []
    for task in names:
        cells = [_of(count.get(task)) for count in counts]
        rows.append((task.replace("_", " "), *cells, *([f"{paper.task_rate(task):.3f}"] if with_paper else [])))
    means = [f"{metrics.mean_success(count):.3f}" for count in counts]
    rows.append(("mean over tasks", *means, *([f"{_mean_of_paper(names):.3f}"] if with_paper else [])))
    columns = ("Task", *(run.label for run in runs), *([f"{paper.MAIN_VARIANT} (paper)"] if with_paper else []))
    return Table("Success rate by task", columns, tuple(rows), (paper.NOTE,) if with_paper else ())


def comparison_table(differences: Sequence[Difference], runs: Sequence[Run]) -> Table:
    """Paired tests of the differences between runs."""
    rows = [
        (
            test.second,
            test.first,
            test.measure,
            str(test.pairs),
            measured(test.mean, *test.interval, 3 if test.is_rate else 2, "+"),
            p_value(test.p),
            p_value(test.corrected),
            "yes" if test.significant else "no",
        )
        for test in differences
    ]
    columns = ("Method", "Against", "Measure", "Pairs", "Difference", "p", "p (Holm)", "Significant")
    conditions = differing_conditions(runs)
    notes = (_also(conditions),) if conditions else ()
    return Table("Differences on the episodes that both have played", columns, tuple(rows), notes)


def _also(conditions: Sequence[str]) -> str:
    return "The runs also differ in: " + "; ".join(conditions)


def markdown(found: Iterable[Table]) -> str:
    """The tables as GitHub-flavoured Markdown, each under its title."""
    blocks = []
    for table in found:
        align = ["---", *["---:"] * (len(table.columns) - 1)]
        lines = [table.columns, align, *table.rows]
        block = [f"**{_markdown(table.title)}**", ""]
        block += ["| " + " | ".join(map(str if line is align else _markdown, line)) + " |" for line in lines]
        blocks.append("\n".join([*block, *(f"\n{_markdown(note)}" for note in table.notes)]))
    return "\n\n".join(blocks) + "\n"


def latex(found: Iterable[Table]) -> str:
    """The tables as LaTeX, in the style of the package booktabs."""
    blocks = ["% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}"]
    for table in found:
        lines = [r"\begin{table}", r"\centering", f"\\caption{{{_latex(table.title)}.}}"]
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule", _row(table.columns)]
        lines += [r"\midrule", *map(_row, table.rows), r"\bottomrule", r"\end{tabular}"]
        lines += [f"\\par {_latex(note)}" for note in table.notes]
        blocks.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def csv_text(runs: Sequence[Run]) -> str:
    """All numbers as one table for programs, a row for each: run, measure, value, ends of its interval, counts, p.

    `difference` rows hold the run, minus the run in `against`.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()

    def write(*cells: object) -> None:
        writer.writerow(dict(zip(CSV_COLUMNS, cells, strict=False)))

    for run in runs:
        if run.scored:
            for needed, entry in metrics.success_rates(run.episodes, run.length).items():
                solved = sum(episode.completed >= int(needed) for episode in run.episodes)
                numbers = [entry["rate"], *entry["ci95"], solved, len(run.episodes)]
                write(run.label, f"{needed} in a row", *numbers)
            if run.chained:
                write(run.label, "average length", *average_length(run), "", len(run.episodes))
        if run.rewarded:
            write(run.label, "return", *mean_return(run), "", len(run.episodes))
        for task, count in metrics.task_counts(run.episodes).items():
            solved, total = count["success"], count["total"]
            numbers = [solved / total, *metrics.wilson_interval(solved, total), solved, total]
            write(run.label, f"task {task}", *numbers)
    for test in compare(runs):
        name = f"difference in {test.measure}"
        write(test.second, name, test.mean, *test.interval, "", test.pairs, test.first, test.p, test.corrected)
    return out.getvalue()


def tasks(runs: Iterable[Run]) -> list[str]:
    """The tasks that any of the runs has tried, by family and name."""
    counts = metrics.task_counts([episode for run in runs for episode in run.episodes])
    return [task for group in metrics.group_counts(counts).values() for task in group]


def average_length(run: Run) -> tuple[float, float, float]:
    """Mean number of sub-tasks in a row, and its interval."""
    found = metrics.average_length(run.episodes, run.settings.get("seed", 0))
    return (found["mean"], *found["ci95"])


def mean_return(run: Run) -> tuple[float, float, float]:
    """Mean sum of rewards of an episode, and its interval."""
    found = metrics.mean_return(run.episodes, run.settings.get("seed", 0))
    return (found["mean"], *found["ci95"])


def is_enriched(run: Run) -> bool:
    """Whether its instructions are in GPT-4's words rather than CALVIN's own."""
    return run.settings.get("env_options", {}).get("instructions") == "enriched"


def measured(value: float, low: float, high: float, digits: int = 3, sign: str = "") -> str:
    """A number with its interval: `0.890 [0.814, 0.937]`."""
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def p_value(p: float) -> str:
    """A p value as papers print it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _of(count: dict[str, int] | None) -> str:
    return "" if count is None else f"{count['success'] / count['total']:.3f} ({count['success']}/{count['total']})"


def _mean_of_paper(names: Sequence[str]) -> float:
    return sum(map(paper.task_rate, names)) / len(names)


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(note for run in runs for note in run.notes)


def _markdown(text: str) -> str:
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"
