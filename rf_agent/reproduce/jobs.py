"""Commands that run side by side, and that end together when the one who waits for them is interrupted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GRACE = 10.0
"""Seconds that commands have to end by themselves, each time they are told to."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
BEAT = 30.0
"""Seconds after which the one who waits for a command hears that it is still running."""


class Commands:
    """Processes of one reproduction. Its methods may be called from several threads.

    Attributes:
        kept: file descriptors that commands inherit.
    """

    def __init__(self) -> None:
        self.kept: tuple[int, ...] = ()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ending = False

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path | None,
        beat: Callable[[], None] = lambda: None,
    ) -> int:
        """Run a command to its end.

        Args:
            arguments: the command.
            folder: in which it runs.
            environment: its environment variables.
            output: file to which everything that it prints is appended; where it goes anyway if None.
            beat: called now and then while it runs.

        Returns:
            Its exit status; that of a command which got SIGINT if `end` was called before it could begin.
        """
        if output is None:
            return self._wait(
                lambda: subprocess.Popen(arguments, cwd=folder, env=environment, pass_fds=self.kept), beat
            )
        with output.open("ab") as file:
            return self._wait(
                lambda: subprocess.Popen(
                    arguments, cwd=folder, env=environment, stdout=file, stderr=file, pass_fds=self.kept
                ),
                beat,
            )

    def end(self, told: bool = False) -> None:
        """End what runs, and begin nothing more.

        Training saves its checkpoint then. Those that do not listen are ended after a while.

        Args:
            told: whether the commands have heard of it, as in a terminal, where Ctrl-C goes to all of them.
        """
        with self._lock:
            self._ending = True
            running = list(self._running)
        for tell in (*([None] if told else []), signal.SIGINT, signal.SIGTERM, KILL):
            running = [process for process in running if process.poll() is None]
            if tell is not None:
                for process in running:
                    process.send_signal(tell)
            deadline = time.monotonic() + GRACE
            while any(process.poll() is None for process in running) and time.monotonic() < deadline:
                time.sleep(0.05)

    def _wait(self, start: Callable[[], subprocess.Popen[bytes]], beat: Callable[[], None]) -> int:
        with self._lock:  # what `end` does not see here must not begin
            if self._ending:
                return -signal.SIGINT
            process = start()
            self._running.add(process)
        try:
            while True:
                try:
                    return process.wait(BEAT)
                except subprocess.TimeoutExpired:
                    with contextlib.suppress(OSError):  # a full disk must not make us forget what runs
                        beat()
        finally:
            with self._lock:
                self._running.discard(process)
