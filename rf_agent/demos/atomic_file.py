"""Changing a file completely or not at all, whenever the process is killed.

HDF5 changes a file in many places, and a file whose writer was killed between two of them is lost. `AtomicFile` is
given to h5py as its file. What lies beyond the old end of the file is written at once. Changes before the old end are
kept in memory until `commit`, which does this:

    1. all that lies beyond the old end reaches the disk
    2. the old bytes of everything that is to change reach the journal (`rf_agent.demos.rollback`)
    3. the changes reach the file
    4. the journal is deleted: from here on the file is the new one
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from rf_agent.demos import rollback

PAGE = 4096
"""Changes are kept and written back in blocks of this many bytes."""


class AtomicFile:
    """A file that a program such as h5py reads and writes, and that changes only with `commit`.

    Errors (a full disk) are not raised amid HDF5, which then could not even close the file, but kept in `failure` and
    raised by `commit`.

    Args:
        path: the file; a missing one is created.

    Raises:
        BlockingIOError: another process has it open.
        OSError: it cannot be opened or created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: BaseException | None = None
        self._journal_path = rollback.journal_of(path)
        self._journal: FileIO | None = None
        self._pages: dict[int, bytearray] = {}
        self._position = 0
        self._file = self._open()
        self.old_size = self._size = os.fstat(self._file.fileno()).st_size

    def _open(self) -> FileIO:
        for _ in range(10):
            rollback.recover(self.path)
            self._created = not self.path.exists()
            file = FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+")
            try:
                rollback.lock(file)
                # between opening and locking another process may have written, been killed, or removed the file
                same = self.path.exists() and self.path.stat().st_ino == os.fstat(file.fileno()).st_ino
                if same and not self._journal_path.exists():
                    return file
            except BaseException:
                file.close()
                raise
            file.close()
        raise BlockingIOError(errno.EAGAIN, f"{self.path} is in use")

    def __repr__(self) -> str:  # h5py takes it for the file's name
        return str(self.path)

    # What h5py calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        content = bytearray(max(0, self._size - self._position) if size < 0 else size)
        self.readinto(content)
        return bytes(content)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, with zeros beyond the end."""
        view = memoryview(buffer).cast("B")
        first = self._position
        content = self._stored(first, len(view))
        view[: len(content)] = content
        view[len(content) :] = bytes(len(view) - len(content))
        for page, start, stop in _pages(first, min(first + len(view), self.old_size)):
            if page in self._pages:
                view[start - first : stop - first] = self._pages[page][start % PAGE : start % PAGE + stop - start]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        first, last = self._position, self._position + len(view)
        for page, start, stop in _pages(first, min(last, self.old_size)):
            if page not in self._pages:
                self._pages[page] = bytearray(self._stored(page * PAGE, min(PAGE, self.old_size - page * PAGE)))
            self._pages[page][start % PAGE : start % PAGE + stop - start] = view[start - first : stop - first]
        if last > self.old_size and self.failure is None:
            start = max(first, self.old_size)
            try:
                self._begin()
                rollback.write(self._file, start, view[start - first :])
            except BaseException as error:  # HDF5 may swallow it, and then go on as if all were written
                self.failure = error
        self._position, self._size = last, max(self._size, last)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        if self._size > self.old_size and self.failure is None:
            try:
                self._begin()
                rollback.truncate(self._file, self._size)
            except BaseException as error:  # HDF5 may swallow it, and then go on as if all were written
                self.failure = error
        return self._size

    def flush(self) -> None:
        """Nothing: only `commit` makes changes last."""

    # What its owner calls

    def commit(self) -> None:
        """Make all changes last, and close it. If that fails, nothing has changed.

        Raises:
            BaseException: what went wrong now or in an earlier write.
        """
        try:
            if self.failure is not None:
                raise self.failure
            self._apply()
        except BaseException as error:
            self.failure = error
            self.rollback()
            raise
        self._close()

    def rollback(self) -> None:
        """Undo all changes, and close it. A file that was created goes away.

        Where the disk does not even allow that, the journal stays for whoever opens the file next.
        """
        if self._file.closed:
            return
        try:
            with contextlib.suppress(OSError):
                if self._journal is not None:
                    self._journal.close()
                    rollback.restore(self._file, self.path, self._journal_path)
                if self._created and os.fstat(self._file.fileno()).st_size == 0:
                    rollback.remove(self.path)
        finally:
            self._close()

    def _begin(self) -> None:
        """Write down what the file is, before it is touched."""
        if self._journal is None:
            self._journal = rollback.create(self._journal_path)
            rollback.write(self._journal, 0, rollback.header(self.old_size, os.fstat(self._file.fileno()).st_ino))
            rollback.sync(self._journal)
            rollback.sync_folder(self._journal_path.parent)

    def _apply(self) -> None:
        changed = {page: bytes(content) for page, content in self._pages.items() if not self._equals(page, content)}
        cut = range(self._size // PAGE, -(-self.old_size // PAGE)) if self._size < self.old_size else ()
        if not changed and not cut and self._size == self.old_size and self._journal is None:
            return
        self._begin()
        assert self._journal is not None
        rollback.sync(self._file)
        place = rollback.HEADER.size
        for page in sorted({*changed, *cut}):
            old = self._stored(page * PAGE, min(PAGE, self.old_size - page * PAGE))
            start = rollback.RECORD.pack(page * PAGE, len(old), 0)
            record = rollback.RECORD.pack(page * PAGE, len(old), zlib.crc32(old, zlib.crc32(start))) + old
            rollback.write(self._journal, place, record)
            place += len(record)
        rollback.sync(self._journal)
        for page, content in sorted(changed.items()):
            rollback.write(self._file, page * PAGE, content)
        if os.fstat(self._file.fileno()).st_size != self._size:
            rollback.truncate(self._file, self._size)
        rollback.sync(self._file)
        self._journal.close()
        rollback.remove(self._journal_path)
        rollback.sync_folder(self._journal_path.parent)

    def _stored(self, offset: int, size: int) -> bytes:
        """Bytes that are in the file itself, fewer at its end."""
        self._file.seek(offset)
        content = b""
        while len(content) < size and (more := self._file.read(size - len(content))):
            content += more
        return content

    def _equals(self, page: int, content: bytearray) -> bool:
        return self._stored(page * PAGE, len(content)) == content

    def _close(self) -> None:
        self._journal = None
        if not self._file.closed:
            rollback.unlock(self._file)
            self._file.close()


def _pages(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """The pages of a range of bytes, each with the part of the range in it: (page, first, last + 1)."""
    while first < last:
        stop = min(last, (first // PAGE + 1) * PAGE)
        yield first // PAGE, first, stop
        first = stop
