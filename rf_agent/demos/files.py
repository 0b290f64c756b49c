"""Opening HDF5 files with errors that a reader understands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from rf_agent.errors import UserError


class DemoError(UserError, ValueError):
    """Demonstrations that cannot be used; the message names the file, what is wrong and the way out."""


class DiskFullError(UserError, OSError):
    """The disk has no room for what is to be written; nothing was."""


@contextmanager
def reading(path: str | Path, part: str = "") -> Iterator[None]:
    """Within the block, whatever h5py raises for a damaged file becomes a `DemoError`.

    Args:
        path: the file, for the message.
        part: what is read, such as the name of a demonstration.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # h5py raises KeyError, OSError, RuntimeError and others, as the damage happens to be
        where = f": {part} cannot be read" if part else " cannot be read"
        way_out = (
            "delete that demonstration or collect the file again" if part else "copy it again, or collect it again"
        )
        raise DemoError(f"{path}{where}, because the file is damaged: {way_out}") from error


def open_hdf5(path: Path, mode: str = "r") -> h5py.File:
    """Open an HDF5 file.

    Raises:
        FileNotFoundError: if it is to be read and is not there.
        PermissionError: if it must not be opened.
        DemoError: if it is truncated or no HDF5 file at all.
    """
    path = Path(path)
    if path.is_dir():
        raise DemoError(f"{path} is a directory: give the name of an HDF5 file")
    if mode in ("r", "r+") and not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give an HDF5 file of demonstrations or scene images")
    if mode in ("a", "w"):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return h5py.File(path, mode)
    except BlockingIOError as error:
        raise DemoError(f"{path} is being written by another process: wait for it, or stop it") from error
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be opened, permission is denied: give another file") from error
    except OSError as error:
        # h5py's own text names C functions and addresses; what a user can do about it is always the same.
        if "unable to lock" in str(error).lower():
            raise DemoError(f"{path} is being written by another process: wait for it, or stop it") from error
        raise DemoError(
            f"{path} is truncated or not an HDF5 file: copy it again, or delete it and write it again"
        ) from error
