"""The results as a page of Markdown, made of what stages measured and of nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rf_agent.reporting.paper import SOURCE
from rf_agent.reproduce.measures import MISSING, Table
from rf_agent.reproduce.results import Results
from rf_agent.reproduce.stages import Stage, in_order

INTRODUCTION = """# The paper's results

What the RoboFlamingo paper ({source}) compares, compared here: on the embedded play table instead of CALVIN,
with policies of a few million parameters instead of billions, and with budgets that fit a laptop. Numbers do not
compare with the paper's; what can be compared is which row is ahead. This page is written by

```bash
rf-agent reproduce --results docs/results/reproduce.json --page docs/results.md
```

from what `rf-agent reproduce TABLE` measured; `rf-agent reproduce --list` says what each table costs. Brackets are 95 %
intervals over chains (bootstrap), of one training run each where no seeds are named: another seed can change more than
they say. A claim holds, or does not, where the interval of the paired difference leaves zero out. "{missing}" has not
been measured yet. The paper's numbers are its average lengths, with the shares of chains that got 1 to 5 sub-tasks far.
"""

BUDGET = """## Budget

The same for all rows of a table: {episodes_per_task} demonstrations of each of the 34 tasks from resets and those of
{chains_per_scene} training chains, in each of the training scenes; a vision-language model pre-trained for
{pretrain_steps:,} steps of 32 on images of the training scenes, a quarter of {images:,} of each; imitation for
{steps:,} steps of 16 sequences of 16 observation steps; {evaluation_chains} of the benchmark's 1000 chains, from the
first ({curve_chains} along training). Number format in training: {mixed_precision}. Measured with {machine}.
"""


def page(tables: Sequence[Table], results: Results, thoughts: Mapping[str, str] | None = None) -> str:
    """The whole page.

    Args:
        tables: those that it shows, each with the seeds that it was measured with.
        results: what was measured.
        thoughts: what we think of claims, by their text.
    """
    parts = [INTRODUCTION.format(source=SOURCE, missing=MISSING), _budget(results)]
    parts += [_section(table, results, thoughts or {}) for table in tables]
    return "\n".join(parts)


def table_lines(table: Table, results: Results) -> list[str]:
    """A table as Markdown."""
    lines = [f"| {' | '.join(table.headers)} |", f"|{'---|' * len(table.headers)}"]
    return lines + [f"| {' | '.join(row.cells(results))} |" for row in table.rows]


def finished(table: Table, results: Results) -> tuple[int, int]:
    """Rows of which everything is measured, and all rows."""
    rows = [row for row in table.rows if row.stages]  # others have the paper's numbers alone
    done = sum(all(results.facts(stage) is not None for stage in row.stages) for row in rows)
    return done, len(rows)


def _budget(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    return BUDGET.format(**dataclasses.asdict(results.recipe), machine=machine)


def _section(table: Table, results: Results, thoughts: Mapping[str, str]) -> str:
    done, rows = finished(table, results)
    command = " ".join(("rf-agent reproduce", table.name, *_seeds(table), *results.recipe.options))
    lines = [f"## {table.title}", "", f"Stands for: {table.source}. `{command}`"]
    lines[-1] += "." if done == rows else f": {done} of {rows} rows are measured."
    if table.notes:
        lines += ["", table.notes]
    lines += ["", *table_lines(table, results)]
    if table.claims:
        lines += ["", "What the paper says:", ""]
        for claim in table.claims:
            lines.append(f"- {claim.verdict(results)} {thoughts.get(claim.text, '')}".rstrip())
    stages = [stage for stage in in_order(table.stages) if results.facts(stage) is not None]
    if stages:
        lines += ["", "Commands, in the folder of the reproduction, and the minutes that each took:", "", "```bash"]
        lines += [line for stage in stages for line in _command(stage, results)]
        lines.append("```")
    return "\n".join(lines) + "\n"


def _seeds(table: Table) -> tuple[str, ...]:
    return () if table.seeds == (0,) else ("--seeds", *map(str, table.seeds))


def _command(stage: Stage, results: Results) -> list[str]:
    minutes = results.stages[stage.folder]["seconds"] / 60
    return [f"# {minutes:.0f} min", stage.command]
