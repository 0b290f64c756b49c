"""Readers of demonstrations: one for each format, and the choice among them."""

from __future__ import annotations

from pathlib import Path

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record

__all__ = ["DemoReader", "Record", "open_demos"]


def open_demos(path: str | Path) -> DemoReader:
    """The reader of a file or folder of demonstrations, chosen by what it holds.

    Args:
        path: an HDF5 file (ours or robomimic's), or the folder of a LeRobot data set.

    Raises:
        FileNotFoundError: there is nothing.
        DemoError: it is of no known format, damaged, or without a complete demonstration.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        from rf_agent.demos.readers.lerobot import LeRobotReader

        return LeRobotReader(path)
    if path.is_dir():
        raise DemoError(
            f"{path} is a directory of no known format: give an HDF5 file, or a LeRobot data set (meta/info.json)"
        )
    from rf_agent.demos.readers.hdf5 import HDF5Reader

    return HDF5Reader(path)
