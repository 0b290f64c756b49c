"""What asks a process to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGTERM = "SIGTERM"
"""Argument of the KeyboardInterrupt that stands for that signal, which nobody has sent to child processes."""


@contextlib.contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Within the block, SIGTERM ends things in order, as Ctrl-C does.

    Service managers and clusters send it, and kill what has not ended some seconds later. Signals reach the main thread
    alone; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise KeyboardInterrupt(SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class DeferredInterrupts:
    """From its making until `deliver`, or the end of its `with` block, Ctrl-C waits, and SIGTERM where it raises an
    exception, too: within HDF5's calls of a file the exception could get lost."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, lambda number, frame: self._waiting.append((number, frame)))

    def __enter__(self) -> DeferredInterrupts:
        return self

    def __exit__(self, *_: object) -> None:
        self.deliver()

    def deliver(self) -> None:
        """End it, and handle what has come in between."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if handlers and self._waiting:
            number, frame = self._waiting[0]
            handlers[number](number, frame)
