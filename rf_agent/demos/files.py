"""Opening HDF5 files with errors that a reader understands."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rf_agent.demos.atomic_file import AtomicFile
from rf_agent.demos.rollback import JournalError, journal_of, recover
from rf_agent.errors import UserError
from rf_agent.interrupts import DeferredInterrupts


class DemoError(UserError, ValueError):
    """Demonstrations that cannot be used; the message names the file, what is wrong and the way out."""


class FileInUseError(DemoError):
    """Another process writes the file, or reads what is to be written."""


class DiskFullError(UserError, OSError):
    """The disk has no room for what is to be written; nothing was."""


def text_of(value: Any) -> str:
    """A text attribute or entry of an HDF5 file, which h5py gives as str or, of fixed length, as bytes."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


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


PATIENCE = 60.0
"""Seconds that a long collection waits for somebody who looks into its file."""
IN_USE = "is in use by another process, which writes it, or reads it as a training does: wait for it, or stop it"


def open_hdf5(path: Path, mode: str = "r", patience: float = 0.0) -> h5py.File:
    """Open an HDF5 file of plain data.

    What is written becomes part of the file when it is closed, all of it or, if the process is killed or leaves the
    block with an exception, nothing (`rf_agent.demos.atomic_file`). What a killed process left half done is undone.

    Args:
        path: the file.
        mode: h5py's: `r` to read, `r+` to write to a file that exists, `a` to write to any, `w` to begin a new one.
        patience: seconds to wait for others who use it.

    Raises:
        FileNotFoundError: if it is to be read and is not there.
        PermissionError: if it must not be opened.
        FileInUseError: if others still use it.
        DemoError: if it is truncated, no HDF5 file at all, or has data in other files.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _open(path, mode)
        except FileInUseError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _open(path: Path, mode: str) -> h5py.File:
    path = Path(path)
    if path.is_dir():
        raise DemoError(f"{path} is a directory: give the name of an HDF5 file")
    if mode in ("r", "r+") and not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give an HDF5 file of demonstrations or scene images")
    if mode != "r":
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = _open_to_read(path) if mode == "r" else _WrittenFile(AtomicFile(path), mode)
    except JournalError as error:
        raise DemoError(str(error)) from error
    except BlockingIOError as error:
        raise FileInUseError(f"{path} {IN_USE}") from error
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be opened, permission is denied: give another file") from error
    except OSError as error:
        # h5py's own text names C functions and addresses; what a user can do about it is always the same.
        if "unable to lock" in str(error).lower():
            raise FileInUseError(f"{path} {IN_USE}") from error
        if error.errno == errno.EROFS:
            raise PermissionError(f"{path} lies on a read-only file system: give another file") from error
        raise DemoError(
            f"{path} is truncated or not an HDF5 file: copy it again, or delete it and write it again"
        ) from error
    try:
        _refuse_once(file, path, mode)
    except BaseException:
        file.__exit__(*sys.exc_info())
        raise
    return file


def _open_to_read(path: Path) -> h5py.File:
    for _ in range(10):
        recover(path)
        file = h5py.File(path, "r")  # from here on its lock keeps writers away
        if not journal_of(path).exists():
            return file
        file.close()  # a writer was killed in between
    raise BlockingIOError(errno.EAGAIN, f"{path} is in use")


class _WrittenFile(h5py.File):
    """An HDF5 file that is changed when it is closed, unless that happens because of an exception."""

    def __init__(self, file: AtomicFile, mode: str) -> None:
        self._atomic: AtomicFile | None = file
        self._interrupts = DeferredInterrupts()
        is_new = mode == "w" or (mode == "a" and file.old_size == 0)
        try:
            if is_new:
                file.truncate(0)
            super().__init__(file, "w" if is_new else "r+")
        except BaseException:
            self._atomic = None
            file.rollback()
            self._interrupts.deliver()
            raise

    def close(self) -> None:
        """Close it and make its changes last. Raises DiskFullError; nothing has changed then."""
        atomic, self._atomic = self._atomic, None
        if atomic is None:
            return
        try:
            super().close()
            atomic.commit()
        except BaseException as error:
            atomic.rollback()
            raise _failed(atomic) or error from None
        finally:
            self._interrupts.deliver()

    def __exit__(self, kind: Any = None, error: Any = None, trace: Any = None) -> None:
        """Close it; after an exception as it was before it was opened."""
        if kind is None:
            self.close()
            return
        atomic, self._atomic = self._atomic, None
        if atomic is None:
            return
        try:
            with contextlib.suppress(Exception):
                super().close()
        finally:
            atomic.rollback()
            self._interrupts.deliver()
        if issubclass(kind, Exception) and (failed := _failed(atomic)) is not None:
            raise failed from atomic.failure

    def __del__(self) -> None:
        self._interrupts.deliver()  # of a file that was never closed


def _failed(file: AtomicFile) -> DiskFullError | None:
    """What went wrong in writing it, in words."""
    if not isinstance(file.failure, OSError):
        return None
    what = os.strerror(file.failure.errno) if file.failure.errno else str(file.failure)
    return DiskFullError(
        f"{file.path} could not be written ({what}): what was written before is kept; make room and start again"
    )


_checked: set[tuple[int, ...]] = set()  # files that this process has looked through, so that it does so once


def _refuse_once(file: h5py.File, path: Path, mode: str) -> None:
    state = path.stat()
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if mode != "r" or key not in _checked:
        with reading(path):
            refuse_foreign_data(file, path, everything=mode == "r")
    if mode == "r":
        _checked.add(key)


def refuse_foreign_data(file: h5py.File, path: Path, everything: bool) -> None:
    """Refuse a file whose data lies in other files: reading it would read those, whichever they are.

    That is, links other than those of HDF5's own tree, virtual data sets and raw data in external files.

    Args:
        file: open file.
        path: its name, for the message.
        everything: look at all that is in it, and not only at the names of its groups and demonstrations.

    Raises:
        DemoError: naming the link or data set; or a group that is damaged.
    """
    seen: set[int] = set()
    groups: list[tuple[str, h5py.h5g.GroupID]] = [("", h5py.h5g.open(file.id, b"/"))]
    while groups:
        where, group = groups.pop()
        links: list[tuple[bytes, int]] = []
        with reading(path, where):
            group.links.iterate(lambda name, info: links.append((name, info.type)), info=True)  # noqa: B023
        for link, kind in links:
            name = f"{where}/{link.decode(errors='replace')}".lstrip("/")
            if kind != h5py.h5l.TYPE_HARD:
                raise DemoError(_FOREIGN.format(path, name, "is a link"))
            if not everything and name != "data":
                continue
            try:
                found = h5py.h5o.open(group, link)
                address = h5py.h5o.get_info(found).addr
            except Exception:  # damaged: it cannot be read, and whoever tries says so
                continue
            if isinstance(found, h5py.h5g.GroupID) and address not in seen:
                groups.append((name, found))
            elif isinstance(found, h5py.h5d.DatasetID) and _lies_elsewhere(found):
                raise DemoError(_FOREIGN.format(path, name, "is a data set whose content lies in other files"))
            seen.add(address)


_FOREIGN = "{}: {} {}, which is not followed: write its data into the file itself"


def _lies_elsewhere(dataset: h5py.h5d.DatasetID) -> bool:
    """Whether the numbers of a data set are in other files."""
    properties = dataset.get_create_plist()
    return bool(properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count())
