"""`rf-agent inspect`: what demonstrations of any format are, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rf_agent.demos.checks import ActionStatistics, Summary, inspect
from rf_agent.demos.readers import DemoReader
from rf_agent.errors import UserError
from rf_agent.unused import refuse_unused


@dataclass
class Args:
    """Say what a file or folder of demonstrations holds and what is wrong with it."""

    path: tyro.conf.Positional[Path]
    """An HDF5 file, or the folder of a data set of CALVIN, LeRobot or Minari."""
    contact_sheet: Path | None = None
    """Image file (PNG) to write: first, middle and last frame of one demonstration of each task, in every camera."""
    instruction: str | None = None
    """What the robot was asked in all of them, for files of robomimic and data sets of Minari that do not say it."""
    tasks: int = 12
    """Tasks on that image at most."""


def run(args: Args) -> None:
    """Print the summary. What training would refuse is an error."""
    if args.tasks < 1:
        raise UserError(f"--tasks is {args.tasks}: give 1 or more")
    if args.contact_sheet is None:
        refuse_unused(args, ("tasks",), "there is no --contact-sheet")
    elif args.contact_sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--contact-sheet is {args.contact_sheet}: give a file that ends in .png or .jpg")
    summary = inspect(args.path, args.instruction)
    console = Console(soft_wrap=True, highlight=False)
    for line in _described(summary):
        console.print(line, markup=False)
    console.print(_task_table(summary))
    if summary.actions is not None and summary.layout is not None:
        console.print(_action_table(summary.actions, summary.layout.gripper))
    for reason, count in summary.skipped.items():
        console.print(f"left out: {count} ({reason})", markup=False)
    for problem in summary.problems:
        console.print(f"problem: {problem}", markup=False)
    if args.contact_sheet is not None and summary.reader is not None:
        _draw(summary.reader, args.contact_sheet, args.tasks)
        console.print(f"contact sheet: {args.contact_sheet}", markup=False)
    if summary.without_instruction:
        kind = "minari" if summary.path.is_dir() else "robomimic"
        raise UserError(
            f"{summary.path} has {len(summary.problems)} problems (see above), and {summary.without_instruction} "
            f"demonstrations have no instruction: give one with --instruction, here and to `rf-agent convert {kind}`"
        )
    if summary.problems:
        raise UserError(
            f"{summary.path} has {len(summary.problems)} problems (see above): collect these episodes again"
        )
    console.print("No problems found.")


def _described(summary: Summary) -> list[str]:
    lines = [f"{name}: {value}" for name, value in summary.env_args.items()]
    if summary.layout is not None:
        layout = summary.layout
        state = f"state {layout.state} ({layout.state_dim})" if layout.state else "no state"
        gripper = "no gripper" if layout.gripper is None else f"gripper at entry {layout.gripper}"
        rate = "" if layout.fps is None else f"; {layout.fps:g} actions a second"
        cameras = ", ".join(layout.cameras)
        lines.append(f"robot: cameras {cameras}; {state}; actions ({layout.action_dim}), {gripper}{rate}")
    if summary.failures:
        lines.append(f"{summary.failures} demonstrations did not succeed; training leaves them out.")
    return lines


def _task_table(summary: Summary) -> Table:
    table = Table(
        "task", "demos", "steps", "shortest", "median", "longest", "instructions", title=escape(str(summary.path))
    )
    table.columns[0].overflow = "fold"  # a task's name is shown whole
    for column in table.columns[1:]:
        column.justify = "right"
    for task, entry in summary.tasks.items():
        lengths = [f"{number:g}" for number in summary.lengths.get(task, ())] or [""] * 3
        table.add_row(
            escape(task or "(none)"), str(entry["demos"]), str(entry["samples"]), *lengths, str(entry["instructions"])
        )
    table.add_section()
    bounds = list(summary.lengths.values()) or [(0, 0.0, 0)]
    ends = [str(min(one[0] for one in bounds)), "", str(max(one[2] for one in bounds))]
    table.add_row(f"{len(summary.tasks)} tasks", str(summary.demos), str(summary.samples), *ends, "", style="bold")
    return table


def _action_table(actions: ActionStatistics, gripper: int | None) -> Table:
    table = Table("action entry", "min", "max", "mean", "std")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = zip(actions.min, actions.max, actions.mean, actions.std, strict=True)
    for entry, numbers in enumerate(rows):
        name = f"{entry} (gripper)" if entry == gripper else str(entry)
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table


def _draw(reader: DemoReader, path: Path, tasks: int) -> None:
    from rf_agent.demos.contact_sheet import contact_sheet

    sheet = contact_sheet(reader, tasks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{path} cannot be written ({why}): give another --contact-sheet, or make room") from error
