"""The paper's tables and figures by name, each made of stages, measurements and claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rf_agent.reproduce import method_tables as methods
from rf_agent.reproduce import model_tables as models
from rf_agent.reproduce.measures import Table
from rf_agent.reproduce.plan import Plan
from rf_agent.reproduce.policies import Plans
from rf_agent.reproduce.recipe import Recipe

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


def make_tables(names: Sequence[str], recipe: Recipe, seeds: Sequence[int]) -> list[Table]:
    """Tables of a recipe, in the order of `TABLES`."""
    plans = [Plan(recipe, seed) for seed in seeds]
    return [make(plans) for name, make in TABLES.items() if name in names]
