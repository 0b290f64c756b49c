"""`rf-agent inspect`: what a demonstration file holds, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from rf_agent.demos.checks import inspect
from rf_agent.errors import UserError


@dataclass
class Args:
    """Say what a demonstration file holds and what is wrong with it."""

    path: tyro.conf.Positional[Path]
    """The file (HDF5)."""


def run(args: Args) -> None:
    """Print the file's summary. A file that training would refuse is an error."""
    summary = inspect(args.path)
    console = Console(soft_wrap=True, highlight=False)
    for name, value in summary.env_args.items():
        console.print(f"{name}: {value}", markup=False)
    if summary.layout is not None:
        layout = summary.layout
        state = f"state {layout.state} ({layout.state_dim})" if layout.state else "no state"
        gripper = "no gripper" if layout.gripper is None else f"gripper at entry {layout.gripper}"
        cameras = ", ".join(layout.cameras)
        console.print(f"robot: cameras {cameras}; {state}; actions ({layout.action_dim}), {gripper}", markup=False)
    table = Table("task", "demos", "steps", "instructions", title=str(summary.path))
    for column in table.columns[1:]:
        column.justify = "right"
    for task, entry in sorted(summary.tasks.items()):
        table.add_row(task, str(entry["demos"]), str(entry["samples"]), str(entry["instructions"]))
    table.add_section()
    table.add_row(f"{len(summary.tasks)} tasks", str(summary.demos), str(summary.samples), "", style="bold")
    console.print(table)
    if summary.incomplete:
        console.print(f"{summary.incomplete} demonstrations were cut off while they were written; they are left out.")
    for problem in summary.problems:
        console.print(f"problem: {problem}", markup=False)
    if summary.problems:
        raise UserError(
            f"{summary.path} has {len(summary.problems)} problems (see above): collect these episodes again"
        )
    console.print("No problems found.")
