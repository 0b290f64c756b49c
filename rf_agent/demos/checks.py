"""What a file or folder of demonstrations holds, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError, open_hdf5, reading
from rf_agent.demos.readers import DemoReader, Record, is_minari, open_demos
from rf_agent.demos.readers.hdf5 import HDF5Reader
from rf_agent.demos.readers.minari import MinariReader
from rf_agent.demos.readers.robomimic import RobomimicReader, says_instructions
from rf_agent.demos.store import demo_names, read_env_args, read_layout
from rf_agent.demos.store_checks import problems
from rf_agent.errors import UserError
from rf_agent.normalization import action_range


def check_demos(path: Path) -> Layout:
    """The layout of a file with nothing wrong in it.

    Raises:
        DemoError: naming the file, the demonstration and the remedy.
        FileNotFoundError: if there is none.
    """
    with open_hdf5(path) as file:
        layout = read_layout(file)
        for name in demo_names(file):
            if found := problems(file, name, layout):
                raise DemoError(f"{path}: {name}: {found[0]}; delete that demonstration or collect the file again")
    return layout


@dataclass(frozen=True)
class ActionStatistics:
    """Of each entry of the actions, (D,) each; values that are not finite are left out."""

    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass
class Summary:
    """What `inspect` found."""

    path: Path
    env_args: dict[str, Any]
    """What an HDF5 file says of its origin."""
    layout: Layout | None
    """The robot; None where no demonstration is complete."""
    demos: int
    samples: int
    incomplete: int
    """Demonstrations of an HDF5 file that were cut off while they were written."""
    tasks: dict[str, dict[str, Any]]
    """Per task: `demos`, `samples`, `instructions` (how many different ones)."""
    problems: list[str]
    """What stands in the way of training, each naming its demonstration."""
    lengths: dict[str, tuple[int, float, int]] = field(default_factory=dict)
    """Per task: the smallest, the median and the largest number of actions of a demonstration."""
    without_instruction: int = 0
    """Demonstrations without one in a format that need not know it (robomimic, Minari), so that the user can say it."""
    failures: int = 0
    """Demonstrations in which the task was not done."""
    skipped: dict[str, int] = field(default_factory=dict)
    """What the reader left out, as reason -> count."""
    actions: ActionStatistics | None = None
    """None where there is no action."""
    reader: DemoReader | None = field(default=None, repr=False)
    """What read them, for their images; None where no demonstration is complete."""


def inspect(path: Path, instruction: str | None = None) -> Summary:
    """Summarise demonstrations of any format and list everything wrong with them, image content excepted.

    Args:
        path: file or folder.
        instruction: of all demonstrations, for formats that need not know it: robomimic's and Minari's.

    Raises:
        FileNotFoundError, ValueError: if it cannot be read at all.
    """
    path = Path(path)
    arguments: dict[str, Any] = {}
    if not path.is_dir():
        with open_hdf5(path) as file:
            arguments, names = read_env_args(file), demo_names(file)
            with reading(path):
                total = len(file["data"])
        if not names:
            return Summary(path, arguments, None, 0, 0, total, {}, ["no complete demonstration"])
    reader = _reader(path, "cameras" in arguments, instruction)
    summary = summarise(reader, arguments)
    reader.close()
    return summary


def _reader(path: Path, own: bool, instruction: str | None) -> DemoReader:
    """The reader that leaves out the least: what is wrong is to be named, and the rest counted."""
    if path.is_dir() and is_minari(path):
        return MinariReader(path, instruction=instruction, need_instruction=False)
    if not path.is_dir() and not own and (instruction is not None or says_instructions(path)):
        return RobomimicReader(path, instruction=instruction, skip_damaged=True)
    if instruction is not None:
        raise DemoError(f"{path} is of a format that says its instructions: leave out --instruction")
    return open_demos(path) if path.is_dir() else HDF5Reader(path, skip_damaged=True)


def summarise(reader: DemoReader, arguments: dict[str, Any] | None = None) -> Summary:
    """What the demonstrations of a reader are, and everything wrong with them."""
    tasks: dict[str, list[Record]] = {}
    foreign = isinstance(reader, HDF5Reader) and "cameras" not in (arguments or {})
    for record in reader.records:
        tasks.setdefault(record.task, []).append(record)
    return Summary(
        path=reader.path,
        env_args=arguments or {},
        layout=reader.layout,
        demos=len(reader.records),
        samples=sum(len(record.actions) for record in reader.records),
        incomplete=reader.skipped.get(HDF5Reader.CUT_OFF, 0),
        tasks={
            task: {
                "demos": len(records),
                "samples": sum(len(record.actions) for record in records),
                "instructions": len({record.instruction for record in records if record.instruction.strip()}),
            }
            for task, records in sorted(tasks.items())
        },
        problems=[*reader.problems(), *_untrainable(reader)],
        lengths={task: _lengths(records) for task, records in sorted(tasks.items())},
        without_instruction=sum(not record.instruction.strip() for record in reader.records) if foreign else 0,
        failures=sum(not record.success for record in reader.records),
        skipped=dict(reader.skipped),
        actions=_statistics(reader),
        reader=reader,
    )


def _untrainable(reader: DemoReader) -> Iterator[str]:
    """What stands in the way of training in all demonstrations together."""
    learned = [record for record in reader.records if record.success]
    if reader.records and not learned:
        yield "none of the demonstrations succeeded, and training leaves out those that failed"
    layout = reader.layout
    actions = [record.actions for record in learned if record.actions.shape[1:] == (layout.action_dim,)]
    # elsewhere the policy's robot decides whether actions are scaled by their range
    if layout.gripper_known and not layout.bounded and actions:
        every = np.concatenate(actions)
        finite = every[np.isfinite(every).all(axis=1)]  # others are said of their demonstrations
        try:
            if len(finite):
                action_range(finite, "min_max", layout.gripper)
        except UserError as error:
            yield str(error)


def _lengths(records: Sequence[Record]) -> tuple[int, float, int]:
    lengths = [len(record.actions) for record in records]
    return min(lengths), float(np.median(lengths)), max(lengths)


def _statistics(reader: DemoReader) -> ActionStatistics | None:
    dim = reader.layout.action_dim
    blocks = [record.actions for record in reader.records if record.actions.shape[1:] == (dim,) and len(record.actions)]
    if not blocks:
        return None
    values = np.concatenate(blocks).astype(np.float64)
    columns = [column[np.isfinite(column)] for column in values.T]
    columns = [column if len(column) else np.array([np.nan]) for column in columns]
    return ActionStatistics(
        *(np.array([function(column) for column in columns]) for function in (np.min, np.max, np.mean, np.std))
    )
