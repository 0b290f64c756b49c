"""The results as a page of Markdown, made of what stages measured and of nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from rf_agent.reporting.paper import SOURCE
from rf_agent.reproduce.measures import MISSING, Claim, FactClaim, Measured, Table
from rf_agent.reproduce.results import Results, average_with_interval
from rf_agent.reproduce.stages import in_order

INTRODUCTION = """# The paper's results

What the RoboFlamingo paper ({source}) compares, compared here: on the embedded play table instead of CALVIN,
with policies of a few million parameters instead of billions, and with budgets that fit a laptop. Numbers do not
compare with the paper's; what can be compared is which row is ahead. RoboFlamingo here is a short run of this budget,
not the bundled `roboflamingo-tiny`, which learned for many hours and does more
([Measurements](measurements.md)). Words are explained in [Concepts](concepts.md#the-words). This page is written by

```bash
rf-agent reproduce --results docs/results/reproduce.json docs/results/reproduce-2.json \\
    --comments docs/results/comments.json --page docs/results.md
```

from what `rf-agent reproduce TABLE` measured; `rf-agent reproduce --list` says what each table costs, and
[Baselines](baselines.md#the-papers-tables) how to run one. Give all calls that train in one folder the same
options. Tables of which no more than one row is measured come last. {judged}

- Columns 1 to 5 are the shares of chains in which at least one, two, ..., five tasks were done in a row; the average
  length is their sum. Behind the paper's average lengths these shares stand in brackets.
- Brackets are 95 % intervals (bootstrap) over chains, and over seeds where several are named. Where none is named each
  row is one training run, and another seed can change more than the interval says: a verdict is about these runs. Two
  or three seeds are few, too. A claim about average lengths holds, or does not, where the interval of the paired
  difference leaves zero out and a paired permutation test finds the same (p < 0.05, each claim by itself).
- RoboFlamingo, trained in all scenes on all demonstrations, is one run{in_each}: the LSTM, the closed loop, L-IFT and
  what is called RoboFlamingo in other tables are the same policy on the same chains.{several}
- M, G and L name the kind of language model: MPT, GPT-NeoX, Llama. -IFT says that its pre-training had questions and
  instructions, too (in the paper: instruction fine-tuning). The paper's numbers of billions of parameters follow: M-3B.
- "{missing}" stands for what has not been measured yet. A sentence behind a verdict is our comment.
"""

BUDGET = """## Budget

The same for all rows of a table: {episodes_per_task} demonstrations of each of the 34 tasks from resets and those of
{chains_per_scene} training chains, in each of the training scenes; a vision-language model pre-trained for
{pretrain_steps:,} steps of 32 images each, out of {images:,} images of random tables; imitation for {steps:,} steps of
{batch_size} sequences of 16 observation steps; the first {evaluation_chains} of the benchmark's 1000 chains
({curve_chains} for policies that a run kept on its way), or {episodes_of_task} episodes of each task; co-training on
{vl_images:,} images with captions and questions. What a table does otherwise stands there. Number format in training:
{mixed_precision}.
{made}
"""
SEVERAL = """
- What is shown is of {count} reproductions by the same recipe, each with vision-language models and policies of its
  own. All rows of a table are of one of them, named where it is not the first. Do not compare rows of different ones:
  everything in them was trained anew.{again}"""
AGAIN = " [How much that changes](#measured-more-than-once) stands below."
TWICE = """## Measured more than once

The same commands in several reproductions: pre-trained, trained and evaluated anew, from the first step on. By so much
two runs of one method can differ, by chance and by what changed in the code in between; the brackets of a single run do
not say that.
"""
ORDINALS = ("first", "second", "third", "fourth", "fifth")


def page(
    reproductions: Sequence[Results], measured: Sequence[Measured], comments: Mapping[str, str] | None = None
) -> str:
    """The whole page.

    Args:
        reproductions: what was measured, by one recipe.
        measured: the tables that it shows, each with the seeds that it was measured with, and its reproduction.
        comments: what we think of claims, by their text.
    """
    again = _measured_again(reproductions)
    several = SEVERAL.format(count=len(reproductions), again=AGAIN if again else "") if len(reproductions) > 1 else ""
    judged, in_each = _judged(measured), " in each reproduction" if several else ""
    parts = [INTRODUCTION.format(source=SOURCE, missing=MISSING, judged=judged, several=several, in_each=in_each)]
    parts.append(_budget(reproductions))
    ordered = sorted(measured, key=lambda entry: not _says_something(entry))  # stable: else as they came
    parts += [_section(entry, _which(reproductions, entry.results), comments or {}) for entry in ordered]
    parts += again
    commands = []
    for results in reproductions:
        tables = [entry.table for entry in measured if entry.results is results]
        commands += _commands(tables, results, _which(reproductions, results))
    return "\n".join([*parts, *(["## Commands", ""] if commands else []), *commands])


def table_lines(table: Table, results: Results) -> list[str]:
    """A table as Markdown."""
    lines = [f"| {' | '.join(table.headers)} |", f"|{'---|' * len(table.headers)}"]
    return lines + [f"| {' | '.join(row.cells(results))} |" for row in table.rows]


def finished(table: Table, results: Results) -> tuple[int, int]:
    """Rows of which everything is measured, and all rows."""
    rows = [row for row in table.rows if row.stages]  # others have the paper's numbers alone
    done = sum(all(results.facts(stage) is not None for stage in row.stages) for row in rows)
    return done, len(rows)


def judged_claims(table: Table, results: Results) -> list[Claim | FactClaim]:
    """Claims of which both sides are measured."""
    return [claim for claim in table.claims if all(results.facts(stage) is not None for stage in claim.stages)]


def _which(reproductions: Sequence[Results], results: Results) -> str:
    """Of which of several reproductions something is, in words; empty for the first."""
    number = next(number for number, other in enumerate(reproductions) if other is results)
    return f"the {ORDINALS[number]} reproduction" if number else ""


def _judged(measured: Sequence[Measured]) -> str:
    """How many of the paper's claims can be judged, in a sentence."""
    claims = [claim for entry in measured for claim in entry.table.claims if claim.of_paper]
    done = [claim for entry in measured for claim in judged_claims(entry.table, entry.results) if claim.of_paper]
    return f"{len(done)} of the paper's {len(claims)} claims can be judged so far."


def _budget(reproductions: Sequence[Results]) -> str:
    made = []
    for results in reproductions:
        which = _which(reproductions, results)
        made.append(f"Machine{f' of {which}' if which else ''}: {_made(results)}")
    return BUDGET.format(**dataclasses.asdict(reproductions[0].recipe), made="\n".join(made))


def _made(results: Results) -> str:
    """On what machine, and with what code."""
    names = {"cores": "{} cores", "python": "Python {}"}
    machine = ", ".join(names.get(name, f"{name} {{}}").format(value) for name, value in results.machine.items())
    revisions = dict.fromkeys(entry["revision"] for entry in results.stages.values() if "revision" in entry)
    code = f" Code, where it was kept: {', '.join(revisions)}." if revisions else ""
    return f"{machine}.{code}"


def _says_something(entry: Measured) -> bool:
    """Whether more than one of its rows is measured: a single one is that of RoboFlamingo, which most tables have."""
    return finished(entry.table, entry.results)[0] > 1


def _section(entry: Measured, which: str, comments: Mapping[str, str]) -> str:
    table, results = entry.table, entry.results
    done, rows = finished(table, results)
    command = " ".join(("rf-agent reproduce", table.name, *_seeds(table), *results.recipe.options))
    lines = [f"## {table.title}", "", f"{table.source[0].upper()}{table.source[1:]}. `{command}`"]
    lines[-1] += "." if done == rows else f": {done} of {rows} rows are measured in full."
    if which:
        lines[-1] += f" In {which}."
    if table.notes:
        lines += ["", table.notes]
    lines += ["", *table_lines(table, results)]
    for of_paper, heading in ((True, "What the paper says:"), (False, "Asked besides:")):
        claims = [claim for claim in table.claims if claim.of_paper is of_paper]
        if claims:
            lines += ["", heading, ""]
            lines += [f"- {claim.verdict(results)} {comments.get(claim.text, '')}".rstrip() for claim in claims]
    return "\n".join(lines) + "\n"


def _seeds(table: Table) -> tuple[str, ...]:
    return () if table.seeds == (0,) else ("--seeds", *map(str, table.seeds))


def _measured_again(reproductions: Sequence[Results]) -> list[str]:
    """The average lengths of chains that were played in more than one reproduction, side by side."""
    folders = dict.fromkeys(folder for results in reproductions for folder in results.stages)
    rows = []
    for folder in sorted(folders):
        entries = [results.stages.get(folder, {"command": "", "facts": {}}) for results in reproductions]
        commands = {entry["command"] for entry in entries} - {""}
        lengths = [entry["facts"].get("completed") for entry in entries]
        if len(commands) == 1 and sum(map(bool, lengths)) > 1:
            cells = [average_with_interval([found]) if found else MISSING for found in lengths]
            rows.append(f"| `{folder.removeprefix('evaluations/')}` | {' | '.join(cells)} |")
    if not rows:
        return []
    headers = ["evaluation", *ORDINALS[: len(reproductions)]]
    return [TWICE, f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}", *rows, ""]


def _commands(tables: Sequence[Table], results: Results, which: str) -> list[str]:
    """All that was run, each command once."""
    stages = in_order([stage for table in tables for stage in table.stages])
    measured = [stage for stage in stages if results.facts(stage) is not None]
    if not measured:
        return []
    where = which or "the reproduction"
    lines = [f"In the folder of {where}, with the minutes that each took:", "", "```bash"]
    for stage in measured:
        lines += [f"# {results.stages[stage.folder]['seconds'] / 60:.0f} min", stage.command]
    return [*lines, "```", ""]
