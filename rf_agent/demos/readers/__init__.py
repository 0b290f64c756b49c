"""Readers of demonstrations: one for each format, and the choice among them."""

from __future__ import annotations

from pathlib import Path

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.progress import Reporter

__all__ = ["DemoReader", "Record", "open_demos"]


def open_demos(path: str | Path, reporter: Reporter | None = None) -> DemoReader:
    """The reader of a file or folder of demonstrations, chosen by what it holds.

    Args:
        path: an HDF5 file; or the folder of a data set of LeRobot, of CALVIN (a split, or the root, for `training`) or
            of Minari.
        reporter: hears of opening what takes long: CALVIN's frames.

    Raises:
        FileNotFoundError: there is nothing.
        DemoError: it is of no known format, damaged, or without a complete demonstration.
    """
    path = Path(path)
    if (path / "meta" / "info.json").is_file():
        from rf_agent.demos.readers.lerobot import LeRobotReader

        return LeRobotReader(path)
    if is_calvin(path):
        from rf_agent.demos.readers.calvin import CalvinReader

        return CalvinReader(path, reporter=reporter)
    if is_minari(path):
        from rf_agent.demos.readers.minari import MinariReader

        return MinariReader(path)
    if path.is_dir():
        raise DemoError(
            f"{path} is a directory of no known format: give an HDF5 file, a LeRobot data set (meta/info.json), or one "
            "of CALVIN (lang_annotations) or Minari (data/main_data.hdf5)"
        )
    from rf_agent.demos.readers.hdf5 import HDF5Reader
    from rf_agent.demos.readers.robomimic import RobomimicReader, says_instructions

    return RobomimicReader(path) if says_instructions(path) else HDF5Reader(path)


def is_calvin(path: Path) -> bool:
    """Whether a folder is a split or a data set of CALVIN, by the names in it."""
    return any(
        (folder / "lang_annotations").is_dir() or (folder / "ep_start_end_ids.npy").is_file()
        for folder in (path, path / "training")
    )


def is_minari(path: Path) -> bool:
    """Whether a folder is a data set of Minari, by the names in it."""
    return any((folder / "main_data.hdf5").is_file() for folder in (path, path / "data"))
