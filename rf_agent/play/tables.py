"""The tables that are open: a process for each tab, one prepared ahead, and a limit.

The limit holds for processes, too: there is at most one more, while tables of closed tabs end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError
from rf_agent.play.table import FRAME, TableSettings, run_table, start_method

MAX_WAITING = 500
"""Messages that are kept for a page that does not read; of frames and states only the newest."""
END_SECONDS = 5
"""Time that a process has to finish what it records, until it is killed."""


class Table:
    """A table's process, seen from the server.

    Args:
        settings: of the table.
    """

    def __init__(self, settings: TableSettings) -> None:
        self.settings = settings
        self.files: set[str] = set()
        self.fatal = ""
        """Why the process could not begin or go on; empty if it has not said so."""
        self.has_recorded = False
        """Whether it was ever told to record, so that a file may be open."""
        self._lock = threading.Lock()
        self._messages: list[str] = []
        self._state: str | None = None
        self._frame: bytes | None = None
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._sending = threading.Lock()
        context = start_method()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=run_table, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._ended

    def send(self, command: dict[str, Any]) -> None:
        """A command for the table. It may block for as long as the table does not read."""
        self.has_recorded |= command["do"] in ("video", "record")
        self._send(json.dumps(command).encode())

    async def receive(self) -> list[str | bytes]:
        """What is new for the page, at least one message: JSON as str, a frame as bytes; nothing at the end."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            with self._lock:
                found: list[str | bytes] = list(self._messages)
                found += [part for part in (self._frame, self._state) if part is not None]
                self._messages.clear()
                self._frame = self._state = None
                if found or self._ended:
                    return found
            await self._news.wait()

    def kill(self, wait: bool = True) -> None:
        """End the process at once; what it records is lost. Without `wait` it may be there for a moment more."""
        self._process.kill()
        if wait:
            self._process.join(END_SECONDS)

    def close(self) -> None:
        """End the process, if need be by force."""
        # in a thread of its own: a process that hangs reads nothing, and the pipe may be full
        threading.Thread(target=self._send, args=(b"",), daemon=True).start()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self.kill()

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._connection.send_bytes(data)
        except OSError:  # it has gone: the reader says so
            pass

    def _read(self) -> None:
        while True:
            try:
                data = self._connection.recv_bytes()
            except (EOFError, OSError):
                break
            with self._lock:
                self._keep(data)
            self._notify()
        with self._lock:
            self._ended = True
        self._notify()

    def _keep(self, data: bytes) -> None:
        if data[:1] == FRAME:
            self._frame = data[1:]
            return
        text = data[1:].decode()
        message = json.loads(text)
        if message["type"] == "state":
            self._state = text
            return
        if message["type"] == "fatal":  # said at the end, in place of a guess
            self.fatal = message["text"]
            return
        if message["type"] == "file":
            self.files.add(message["name"])
        self._messages = [*self._messages[-MAX_WAITING:], text]

    def _notify(self) -> None:
        if self._loop and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # closed in this very moment
                pass


class Tables:
    """Hands out tables, up to a limit.

    Args:
        settings: of each, but for its name.
        limit: tables at a time.
    """

    def __init__(self, settings: TableSettings, limit: int) -> None:
        if limit < 1:
            raise UserError(f"--tables is {limit}: give 1 or more")
        self.limit = limit
        self._settings = settings
        self._open: list[Table] = []
        self._spare: Table | None = None
        self._files: dict[str, Path] = {}
        self._count = 0
        self._closed = False
        self._ending: list[tuple[Table, threading.Thread]] = []
        self._started = time.strftime("%Y%m%d-%H%M%S")

    def prepare(self) -> None:
        """Start a process ahead of the next tab, if there is room for one."""
        if self._spare is None and not self._closed and len(self._open) < self.limit and self._has_room():
            self._spare = self._make()

    @property
    def cannot_begin(self) -> str | None:
        """Why the first table could not begin, so that none can; empty as long as it may, None once a tab has it."""
        return self._spare.fatal if self._count == 1 and self._spare is not None else None

    def make_room(self) -> bool:
        """Whether a tab need not wait for its table until processes of closed ones have ended.

        If it must, those that have nothing to finish are killed; the others have their `END_SECONDS`.
        """
        has_spare = self._spare is not None and not self._spare.ended
        if has_spare or len(self._open) >= self.limit or self._has_room():
            return True
        for table, _ in self._ending:
            if not table.has_recorded:
                table.kill(wait=False)
        return False

    def take(self) -> Table | None:
        """A table for a tab, once there is room (`make_room`); None if the limit is reached."""
        if len(self._open) >= self.limit:
            return None
        table, self._spare = self._spare, None
        if table is None or table.ended:
            table = self._make()
        self._open.append(table)
        return table

    def give_back(self, table: Table) -> None:
        """A tab was closed: its table ends in the background, and the next one is prepared."""
        self._open.remove(table)
        self._end_in_background(table)
        self.prepare()

    def _has_room(self) -> bool:
        """Whether one more process is at most one too many."""
        self._ending = [(table, thread) for table, thread in self._ending if thread.is_alive()]
        return len(self._open) + len(self._ending) <= self.limit

    def _end_in_background(self, table: Table) -> None:
        thread = threading.Thread(target=self._end, args=(table,))
        self._ending.append((table, thread))
        thread.start()

    def _end(self, table: Table) -> None:
        self._remember(table)
        table.close()

    def recording(self, name: str) -> Path | None:
        """The file of that name, if a table here has written it."""
        if not re.fullmatch(r"play-[\w-]+\.(mp4|hdf5)", name, re.ASCII):
            return None
        for table in self._open:
            self._remember(table)
        path = self._files.get(name)
        return path if path and path.is_file() else None

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        if self._spare:
            self._spare.kill()  # nobody has seen it
            self._spare = None
        for table in self._open:
            self._end_in_background(table)
        for _, thread in self._ending:
            thread.join()

    def _remember(self, table: Table) -> None:
        self._files |= {name: table.settings.recordings / name for name in table.files}

    def _make(self) -> Table:
        self._count += 1
        return Table(dataclasses.replace(self._settings, name=f"play-{self._started}-{self._count}"))
