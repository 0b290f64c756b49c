"""Demonstrations of any format into our store: one HDF5 file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError, DiskFullError
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.demos.rollback import replace_file
from rf_agent.demos.store import append_demos, create_store
from rf_agent.progress import Reporter, Silent

BATCH, BATCH_BYTES = 16, 128 << 20
"""Most demonstrations that are written at a time, and bytes of images beyond which no further one is held in memory."""


def convert(
    reader: DemoReader,
    output: str | Path,
    gripper: int | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write all demonstrations of a reader to a new HDF5 file, a few at a time; the file appears when it is whole.

    Args:
        reader: the demonstrations.
        output: the file.
        gripper: entry of an action that opens or closes a gripper, for sources that do not say it.
        overwrite: replace a file that exists.
        reporter: of the progress.

    Returns:
        The file.

    Raises:
        FileExistsError: it exists.
        DemoError: a demonstration cannot be used; source and demonstration are named, and nothing is written.
        DiskFullError: the disk is full; nothing is left.
    """
    output, reporter = Path(output), reporter or Silent()
    check_output(output, overwrite)
    if reader.path.resolve() == output.resolve():
        raise DemoError(f"{output} is the source and the output: give another --output")
    layout = _with_gripper(reader, gripper)
    write_file([reader], output, layout, {"converted_from": reader.path.name}, reporter)
    return output


def write_file(
    readers: Sequence[DemoReader],
    output: Path,
    layout: Layout,
    origin: dict[str, Any],
    reporter: Reporter,
    quality: int | None = None,
) -> None:
    """Write all demonstrations of some readers to an HDF5 file, which appears, or is replaced, when it is whole.

    Args:
        readers: of demonstrations with this layout.
        output: the file.
        layout: of the demonstrations.
        origin: where they come from, as stored in `env_args`.
        reporter: of the progress.
        quality: see `append_demos`.

    Raises:
        DemoError: a demonstration cannot be used; source and demonstration are named, and nothing is written.
        DiskFullError: the disk is full; nothing is left.
    """
    for reader in readers:
        for problem in reader.problems():
            raise DemoError(f"{reader.path}: {problem}")
        for reason, count in reader.skipped.items():
            reporter.log(f"left out: {count} ({reason})")
    records = [(reader, record) for reader in readers for record in reader.records]
    draft = output.with_name(f".{output.name}.{os.getpid()}-{secrets.token_hex(3)}")
    try:
        create_store(draft, layout, origin)
        batch: list[Demonstration] = []  # an append takes its time, however small it is
        for done, (reader, record) in enumerate(records):
            reporter.update(done / len(records), f"{done}/{len(records)} demonstrations")
            demo = reader.demonstration(record)
            if found := demo.problems(layout):
                raise DemoError(f"{reader.path}: {record.name}: {found[0]}")
            batch.append(demo)
            if len(batch) == BATCH or sum(frames.nbytes for d in batch for frames in d.images.values()) > BATCH_BYTES:
                append_demos(draft, batch, layout, quality)
                batch = []
        if batch:
            append_demos(draft, batch, layout, quality)
        replace_file(draft, output)
    except DiskFullError as error:
        raise DiskFullError(
            f"the disk has no room for {output}: nothing was kept; make room and start again"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    reporter.update(1.0, f"{len(records)}/{len(records)} demonstrations")


def check_output(output: Path, overwrite: bool) -> None:
    """Raise FileExistsError if a file must not be written."""
    if output.is_dir() or (output.exists() and not overwrite):
        raise FileExistsError(f"{output} exists: give another name, or --overwrite to replace a file")


def _with_gripper(reader: DemoReader, gripper: int | None) -> Layout:
    """The reader's layout, with the gripper that the user names."""
    layout = reader.layout
    if gripper is None:
        return layout
    if layout.gripper_known and gripper != layout.gripper:
        raise DemoError(f"{reader.path} has its gripper at entry {layout.gripper}, not {gripper}: leave out --gripper")
    if not 0 <= gripper < layout.action_dim:
        raise DemoError(
            f"--gripper is {gripper}, but an action of {reader.path} has {layout.action_dim} entries: give one of 0 to "
            f"{layout.action_dim - 1}"
        )
    values = _values(reader.records, gripper)
    if values > 2:
        raise DemoError(
            f"entry {gripper} of the actions of {reader.path} has {values} different values, but a gripper has two "
            "(open and closed): give another --gripper, or none to regress it"
        )
    return replace(layout, gripper=gripper, gripper_known=True)


def _values(records: Iterable[Record], entry: int) -> int:
    """How many different values an entry of the actions has; those of another shape are refused later, by name."""
    actions = (record.actions for record in records)
    columns = [values[:, entry] for values in actions if values.ndim == 2 and values.shape[1] > entry]
    return len(np.unique(np.concatenate(columns))) if columns else 0
