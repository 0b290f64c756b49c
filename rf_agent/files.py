"""Files that are never half written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a write for which there is no room: on the disk, in a quota, or in a file."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON, see `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def check_result_path(path: Path) -> None:
    """Raise UserError if there cannot be such a file, before work is done whose result it shall hold."""
    if path.is_dir():
        raise UserError(f"--output {path} is a directory: give the name of a file")
    _check_place(path)


def check_result_folder(path: Path, option: str = "--output") -> None:
    """The same for a folder, which may exist; `option` is what the user knows it by."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{option} {path} is a file: give a folder")
    _check_place(path, option)


def _check_place(path: Path, option: str = "--output") -> None:
    """Raise UserError if nothing can be written in a folder, or where a path lies; nothing is left there."""
    folders = path.absolute().parents if not path.is_dir() else [path]
    place = next(folder for folder in folders if folder.exists())
    if not place.is_dir():
        raise UserError(f"{option} {path} lies in {place}, which is a file: give another name")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written ({error.strerror or error}): give another") from error


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[int | None]:
    """Hold a folder that one process at a time may work in.

    Yields:
        The descriptor of the lock; a child that is given it (`pass_fds`) holds the folder, too, even when this process
        is gone. None where the system or the file system has no locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    if fcntl is None:
        yield None
        return
    with open(folder / LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # no locks there
            yield None
            return
        yield file.fileno()


@contextlib.contextmanager
def full_disk_explained(folder: Path, way_out: str) -> Iterator[None]:
    """Within the block, an error that a full disk causes names the folder and the way out.

    Args:
        folder: where the block writes.
        way_out: what to do, after room was made.

    Raises:
        UserError: instead of what Python or safetensors, whose error is of no kind of its own, raises.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = any(f"os error {code}" in str(error) for code in DISK_FULL)
        if getattr(error, "errno", None) not in DISK_FULL and not told:
            raise
        raise UserError(f"{folder} cannot be written ({error}): make room on the disk and {way_out}") from error
