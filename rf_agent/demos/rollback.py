"""Rollback journals, as SQLite keeps them: what a file was before somebody began to change it.

While a file is written (`rf_agent.demos.atomic_file`), a second file beside it, the journal, holds the old size and the
old bytes of everything that changes. A process that is killed leaves its journal behind, and whoever opens the file
next makes it again what it was. A lock on the file keeps writers apart, and readers from a file that is being written.
Where a file system has no locks, the journal says who writes: it is left alone while that process may be alive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from rf_agent.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two writers are not kept apart there
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".journal"
HEADER = struct.Struct("<4sQQQ64sI")
"""Of a journal: MAGIC, old size of the file (0: there was none), its inode, process and machine of the writer, checksum
of the header with 0 in this place."""
OLD_HEADER, OLD_MAGIC = struct.Struct("<4sQQI"), b"RFJ1"
"""Of earlier versions, without the writer."""
RECORD = struct.Struct("<QII")
"""Before old bytes: where they were, their number, checksum of all this."""
MAGIC = b"RFJ2"


RECOVER = "RF_RECOVER"
"""Environment variable: undo what a process left half done even where nobody can tell whether it is alive."""


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
            if not lock(file):
                _leave_to_writer(path, journal)
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
    header = _header_in(content)
    if header is not None:
        if os.fstat(file.fileno()).st_ino != header.inode:
            raise JournalError(
                f"{journal} was written for another file than {path}: if the file was replaced, delete the journal; "
                "if it was copied, open the original once and copy it again"
            )
        for offset, old in _records(content, header.length):
            write(file, offset, old)
        truncate(file, header.size)
        sync(file)
        if header.size == 0:
            remove(path)
    # else the journal was not whole yet: the file had not been touched
    remove(journal)
    sync_folder(journal.parent)


class Header(NamedTuple):
    """The beginning of a journal."""

    size: int
    inode: int
    process: int | None
    machine: bytes
    length: int
    """Bytes that it takes."""


def header(size: int, inode: int) -> bytes:
    """That of a journal which this process begins, for a file of that size."""
    fields = (MAGIC, size, inode, os.getpid(), _machine())
    return HEADER.pack(*fields, zlib.crc32(HEADER.pack(*fields, 0)))


def _header_in(content: bytes) -> Header | None:
    """None if it is not whole: the file had not been touched yet."""
    for kind, magic in ((HEADER, MAGIC), (OLD_HEADER, OLD_MAGIC)):
        if len(content) >= kind.size and content.startswith(magic):
            *fields, checksum = kind.unpack_from(content)
            if checksum != zlib.crc32(kind.pack(*fields, 0)):
                return None
            process, machine = fields[3:] if kind is HEADER else (None, b"")
            return Header(fields[1], fields[2], process, machine.rstrip(b"\0"), kind.size)
    return None


def _leave_to_writer(path: Path, journal: Path) -> None:
    """Where there are no locks, leave a journal alone whose writer may be alive.

    Raises:
        BlockingIOError: it is alive.
        JournalError: it is, or was, a process of another machine.
    """
    with contextlib.suppress(FileNotFoundError):
        header = _header_in(journal.read_bytes())
        if header is None or header.process is None:
            return
        if os.environ.get(RECOVER):
            return
        if header.machine != _machine():
            where = header.machine.decode(errors="replace").partition(" ")[0]
            raise JournalError(
                f"{path} is being written on {where}, or was when its process was stopped, and this file system has no "
                f"locks that would tell: wait for it, open it once there, or if it has ended, set {RECOVER}=1 once"
            )
        if is_alive(header.process):
            raise BlockingIOError(errno.EAGAIN, f"{path} is in use")


def _machine() -> bytes:
    """Where process numbers mean the same: containers of one name may have processes of their own."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        space = ""
    return f"{socket.gethostname()[:40]} {space}".encode()[:64].rstrip(b"\0")


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; no where the system cannot be asked without harm."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _records(content: bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """Places and old bytes of a journal, up to the first one that is not whole; `place` is the end of its header."""
    while place + RECORD.size <= len(content):
        offset, length, checksum = RECORD.unpack_from(content, place)
        old = content[place + RECORD.size : place + RECORD.size + length]
        if len(old) < length or checksum != zlib.crc32(old, zlib.crc32(RECORD.pack(offset, length, 0))):
            return
        yield offset, old
        place += RECORD.size + length


def lock(file: FileIO) -> bool:
    """Lock a file as HDF5 does, and say whether there are locks. Raises BlockingIOError if others have it open."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


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
