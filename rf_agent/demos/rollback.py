"""Rollback journals, as SQLite keeps them: what a file was before somebody began to change it.

While a file is written (`rf_agent.demos.atomic_file`), a second file beside it, the journal, holds the old size and the
old bytes of everything that changes. A process that is killed leaves its journal behind, and whoever opens the file
next makes it again what it was. A lock on the file keeps writers apart, and readers from a file that is being written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".journal"
HEADER = struct.Struct("<4sQQI")
"""Of a journal: MAGIC, old size of the file (0: there was none), its inode, checksum."""
RECORD = struct.Struct("<QII")
"""Before old bytes: where they were, their number, checksum of all this."""
MAGIC = b"RFJ1"


class JournalError(UserError, ValueError):
    """A file whose journal cannot be rolled back."""


def journal_of(path: Path) -> Path:
    """The name of a file's journal: the same by whatever link the file is opened."""
    path = path.resolve()
    return path.with_name(path.name + SUFFIX)


def recover(path: Path) -> None:
    """Undo what a killed process left half done.

    Raises:
        BlockingIOError: another process is writing the file.
        JournalError: the file may not be written, or the journal belongs to another file.
    """
    journal = journal_of(path)
    if not journal.exists():
        return
    if not path.exists():
        with contextlib.suppress(OSError):
            journal.unlink()
        return
    try:
        with FileIO(path, "r+") as file:
            lock(file)
            restore(file, path, journal)
            unlock(file)
    except BlockingIOError:
        raise
    except OSError as error:
        raise JournalError(
            f"{path} was being written when its process was stopped, and cannot be restored from {journal.name} "
            f"here ({os.strerror(error.errno or errno.EIO)}): open it once where both may be written"
        ) from error


def replace_file(draft: Path, path: Path) -> None:
    """Put a finished file in the place of another, whose journal is of no use then."""
    os.replace(draft, path)
    journal_of(path).unlink(missing_ok=True)


def restore(file: FileIO, path: Path, journal: Path) -> None:
    """Make a file what its journal says that it was, and delete the journal. The caller holds the lock."""
    try:
        content = journal.read_bytes()
    except FileNotFoundError:  # it was committed, or restored by another process
        return
    header = content[: HEADER.size]
    magic, size, inode, checksum = HEADER.unpack(header) if len(header) == HEADER.size else (b"", 0, 0, 0)
    if magic == MAGIC and checksum == zlib.crc32(HEADER.pack(magic, size, inode, 0)):
        if os.fstat(file.fileno()).st_ino != inode:
            raise JournalError(
                f"{journal} was written for another file than {path}: if the file was replaced, delete the journal; "
                "if it was copied, open the original once and copy it again"
            )
        for offset, old in _records(content):
            write(file, offset, old)
        truncate(file, size)
        sync(file)
        if size == 0:
            remove(path)
    # else the journal was not whole yet: the file had not been touched
    remove(journal)
    sync_folder(journal.parent)


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Places and old bytes of a journal, up to the first one that is not whole."""
    place = HEADER.size
    while place + RECORD.size <= len(content):
        offset, length, checksum = RECORD.unpack_from(content, place)
        old = content[place + RECORD.size : place + RECORD.size + length]
        if len(old) < length or checksum != zlib.crc32(old, zlib.crc32(RECORD.pack(offset, length, 0))):
            return
        yield offset, old
        place += RECORD.size + length


def lock(file: FileIO) -> None:
    """Lock a file as HDF5 does. Raises BlockingIOError if another process has it open."""
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass


def unlock(file: FileIO) -> None:
    """Unlock it, even if a child process has inherited it."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


# Everything that changes the disk, so that tests can cut it off anywhere


def create(path: Path) -> FileIO:
    return FileIO(path, "x")


def write(file: FileIO, offset: int, data: Any) -> None:
    view = memoryview(data)
    file.seek(offset)
    while view:
        view = view[file.write(view) :]


def truncate(file: FileIO, size: int) -> None:
    file.truncate(size)


def sync(file: FileIO) -> None:
    os.fsync(file.fileno())


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
