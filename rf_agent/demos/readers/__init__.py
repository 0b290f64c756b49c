"""Readers of demonstrations: one for each format, and the choice among them."""

from __future__ import annotations

from pathlib import Path

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record

__all__ = ["DemoReader", "Record", "open_demos"]


def open_demos(path: str | Path) -> DemoReader:
    """The reader of a file or folder of demonstrations, chosen by what it holds.

    Args:
        path: an HDF5 file (ours or robomimic's), or a folder of CALVIN (a split, or a data set's `training`).

    Raises:
        FileNotFoundError: there is nothing.
        DemoError: it is of no known format, damaged, or without a complete demonstration.
    """
    path = Path(path)
    if path.is_dir():
        if is_calvin(path):
            from rf_agent.demos.readers.calvin import CalvinReader

            return CalvinReader(path)
        raise DemoError(f"{path} is a directory of no known format: give an HDF5 file, or a folder of CALVIN")
    from rf_agent.demos.readers.hdf5 import HDF5Reader

    return HDF5Reader(path)


def is_calvin(path: Path) -> bool:
    """Whether a folder is a split or a data set of CALVIN, by the names in it."""
    return any(
        (folder / "lang_annotations").is_dir() or (folder / "ep_start_end_ids.npy").is_file()
        for folder in (path, path / "training")
    )
