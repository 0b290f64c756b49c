"""The paper's tables and figures by name, each made of stages, measurements and claims."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from rf_agent.reproduce import method_tables as methods
from rf_agent.reproduce import model_tables as models
from rf_agent.reproduce.measures import Measured, Table
from rf_agent.reproduce.page import finished, judged_claims
from rf_agent.reproduce.plan import Plan
from rf_agent.reproduce.policies import Plans
from rf_agent.reproduce.recipe import Recipe
from rf_agent.reproduce.results import Results

TABLES: dict[str, Callable[[Plans], Table]] = {
    "tuning": methods.tuning,
    "table1": methods.table_1,
    "table2": models.table_2,
    "table3": models.table_3,
    "fig3a": methods.figure_3a,
    "fig3b": methods.figure_3b,
    "fig3c": methods.figure_3c,
    "table5": models.table_5,
    "table6": models.table_6,
    "table7": methods.table_7,
    "table8": methods.table_8,
    "table9": models.table_9,
    "fig5": models.figures_5_6,
    "fig8": models.figure_8,
    "fig9": models.figure_9,
}
"""Tables by the names that the command takes. Table 4 of the paper has no numbers, but examples of instructions."""
SEEDED = re.compile(r"policies/.*_seed\d+")
"""Folders of policies with another seed than 0."""


def make_tables(names: Sequence[str], recipe: Recipe, seeds: Sequence[int]) -> list[Table]:
    """Tables of a recipe, in the order of their names."""
    plans = [Plan(recipe, seed) for seed in seeds]
    tables = [TABLES[name](plans) for name in dict.fromkeys(names)]
    return [replace(table, seeds=tuple(seeds[:1] if table.one_seed else seeds)) for table in tables]


def most_measured(reproductions: Sequence[Results]) -> list[Measured]:
    """All tables, each of the reproduction that has the most of it: of claims, then of rows, then of single numbers."""

    def progress(entry: Measured) -> tuple[int, int, int]:
        table, results = entry.table, entry.results
        stages = {stage.folder: stage for stage in table.stages}.values()
        single = sum(results.facts(stage) is not None for stage in stages)
        return len(judged_claims(table, results)), finished(table, results)[0], single

    each = [[Measured(table, results) for table in measured_tables(results)] for results in reproductions]
    return [max(entries, key=progress) for entries in zip(*each, strict=True)]


def measured_tables(results: Results) -> list[Table]:
    """All tables, each with the seeds with which the most of it was measured."""
    found = {int(folder.rpartition("_seed")[2]) for folder in results.stages if SEEDED.fullmatch(folder)}
    tables = []
    for name in TABLES:
        alone = {seed: make_tables([name], results.recipe, (seed,))[0] for seed in sorted({0, *found})}
        done = {seed: finished(table, results)[0] for seed, table in alone.items()}
        most = max(done.values())
        seeds = [seed for seed, rows in done.items() if rows == most] if most else [0]
        tables += make_tables([name], results.recipe, seeds)
    return tables
