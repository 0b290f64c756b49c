"""`rf-agent reproduce`: the paper's tables in miniature, each by one command that goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table as RichTable

from rf_agent.devices import resolve_device
from rf_agent.errors import UserError, require
from rf_agent.files import write_text
from rf_agent.progress import RichReporter, duration
from rf_agent.reproduce.costs import estimate
from rf_agent.reproduce.measures import Table
from rf_agent.reproduce.page import ORDINALS, finished, page, table_lines
from rf_agent.reproduce.recipe import Recipe, to_read
from rf_agent.reproduce.results import FILE, Results
from rf_agent.reproduce.run import Reproduction
from rf_agent.reproduce.stages import Stage, in_order
from rf_agent.reproduce.tables import TABLES, make_tables, most_measured
from rf_agent.training.engine import choose_precision


@dataclass(frozen=True, kw_only=True)
class Args(Recipe):
    """Train and measure what a table of the paper compares, small enough for this machine."""

    tables: tyro.conf.Positional[tuple[str, ...]] = ()
    """Tables and figures, such as table1 or fig3a, or all, in the order in which they are begun; --list names them."""
    output: Path = Path("runs/reproduce")
    """Folder of everything that is made; the same command goes on where it stopped, and tables share what they can."""
    list: bool = False
    """Say which tables there are, what each costs here and how much of it is done."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of training; each policy is trained once with each. Tables of curves, of single tasks, of the language and
    of the learning rates are made with the first alone."""
    workers: int | None = None
    """Simulator processes of a command; its share of the cores if not given."""
    jobs: int = 1
    """Commands that run at once and share the cores; what they print goes to output.txt in their folders. On two cores
    two train 1.45 times as much in an hour as one does."""
    device: str = "auto"
    """Where networks compute: auto, cpu, cuda, cuda:1, ..."""
    page: Path | None = None
    """Write what has been measured, of all tables, as a page of Markdown."""
    results: tuple[Path, ...] = ()
    """Make that page of this file instead of OUTPUT/results.json. Of several, by the same recipe (of two machines,
    say), each table is shown as the one has it that measured the most of it."""
    comments: Path | None = None
    """What you think of the paper's claims, for that page: JSON with a sentence by the text of a claim."""


def run(args: Args) -> None:
    """Run what is not done yet, and print the tables."""
    names = _names(args)
    recipe = Recipe(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Recipe)})
    console = Console(soft_wrap=True, highlight=False)
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers is {args.workers}: give 1 or more")
    if args.list and args.page is not None:
        raise UserError("--list prints what there is, and --page writes what was measured: give one of them")
    if args.comments is not None and args.page is None:
        raise UserError("--comments is for a page: give --page FILE with it")
    if args.results:
        if args.page is None or names:
            raise UserError("--results is for a page: give --page FILE with it, and no tables")
        _write_page(args.page, _load(args.results), args.comments, console)
        return
    if not names or args.list:
        recipe = to_read(args.output, recipe)
    if args.list:
        console.print(_list(args, recipe))
        return
    if not names and args.page is None:
        raise UserError(f"name a table ({', '.join(TABLES)}) or all; --list says what each costs")
    if not names and not (args.output / FILE).exists():
        raise UserError(f"{args.output} holds no {FILE} to make a page of: name a table, or another --output")
    with RichReporter("reproduce") as reporter:
        reproduction = Reproduction(args.output, recipe, args.workers, args.device, args.jobs, reporter=reporter)
        tables = make_tables(names, recipe, args.seeds)
        left = [stage for table in tables for stage in in_order(table.stages) if not reproduction.is_done(stage)]
        # what is lacking is said now, not only after hours of collection and training
        if any(stage.kind in ("pretrain", "train") for stage in left):
            require("accelerate", "training", "'roboflamingo-agent[train]'")
            choose_precision(recipe.mixed_precision, resolve_device(args.device))
        if any(stage.kind == "evaluate-vl" and "--captions" in stage.words for stage in left):
            require("pycocoevalcap.bleu.bleu", "scoring captions", "'roboflamingo-agent[vl]'")
        # at once, so that nobody comes in between; what is all there can be looked at while others run something
        with reproduction.held() if left else contextlib.nullcontext():
            for table in tables:
                if len(table.seeds) < len(args.seeds):
                    reporter.log(f"{table.name} is made with seed {table.seeds[0]} alone")
            unseen = list(tables)

            def show_measured() -> None:
                for table in list(unseen):
                    if all(map(reproduction.is_measured, in_order(table.stages))):
                        unseen.remove(table)
                        _show(console, table, reproduction.results)

            # of all tables at once: while the last command of one runs, those of the next need not wait
            reproduction.run([stage for table in tables for stage in table.stages], show_measured)
            show_measured()
    if args.page is not None:
        _write_page(args.page, [reproduction.results], args.comments, console)


def _load(paths: Sequence[Path]) -> list[Results]:
    """Results of one recipe."""
    if len(paths) > len(ORDINALS):
        raise UserError(f"--results names {len(paths)} files: give {len(ORDINALS)} at most")
    loaded = [Results.load(path) for path in paths]
    budgets = [" ".join(results.recipe.options) or "the usual budget" for results in loaded]
    for path, budget in zip(paths, budgets, strict=True):
        if budget != budgets[0]:
            raise UserError(f"{path} is of another recipe ({budget}) than {paths[0]} ({budgets[0]})")
    return loaded


def _write_page(path: Path, reproductions: Sequence[Results], comments: Path | None, console: Console) -> None:
    measured = most_measured(reproductions)
    write_text(path, page(reproductions, measured, _read_comments(comments, [entry.table for entry in measured])))
    console.print(f"page: {path}", markup=False)


def _read_comments(path: Path | None, tables: Sequence[Table]) -> dict[str, str]:
    if path is None:
        return {}
    try:
        comments = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--comments is {path}, which is no JSON with sentences by claim ({error})") from error
    claims = {claim.text for table in tables for claim in table.claims}
    for text in comments:
        if text not in claims:
            raise UserError(f"--comments {path} speaks of {text!r}, which no table claims")
    return comments


def _names(args: Args) -> list[str]:
    if not args.seeds or len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"--seeds is {list(args.seeds)}: give one or more different numbers")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds is {list(args.seeds)}: give numbers from 0 on")
    names = list(TABLES) if "all" in args.tables else list(args.tables)
    for name in names:
        if name not in TABLES:
            raise UserError(f"there is no table {name!r}: tables are {', '.join(TABLES)}, or all")
    return names


def _show(console: Console, table: Table, results: Results) -> None:
    console.print(f"\n{table.title} ({table.source})", style="bold", markup=False)
    console.print(Markdown("\n".join(table_lines(table, results))))
    for claim in table.claims:
        console.print(Markdown(claim.verdict(results)))


def _list(args: Args, recipe: Recipe) -> RichTable:
    """A row per table; what several tables need is counted in each."""
    path = args.output / FILE
    results = Results.load(path) if path.exists() else Results(recipe)
    shown = RichTable("table", "stands for", "what", "rows done", "commands left", "time left, 2 cores, one job")
    for column in shown.columns[3:]:
        column.justify = "right"
    everything: dict[str, Stage] = {}
    for table in make_tables(list(TABLES), recipe, args.seeds):
        stages = {stage.folder: stage for stage in in_order(table.stages) if results.facts(stage) is None}
        everything |= stages
        done, rows = finished(table, results)
        seconds = sum(estimate(stage, recipe) for stage in stages.values())
        row = (table.name, table.source, table.title, f"{done}/{rows}", str(len(stages)), duration(seconds))
        shown.add_row(*row)
    shown.add_section()
    seconds = sum(estimate(stage, recipe) for stage in everything.values())
    shown.add_row("all", "", "what tables share, once", "", str(len(everything)), duration(seconds))
    return shown
