"""Ends a worker process that hangs, and says where it hung.

Python code that waits inside a simulator's library cannot be interrupted from Python, so the process is ended by
`faulthandler`, whose timer runs without the interpreter.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

REARM = 0.1
"""Share of the time-out after which a sign of life sets the timer again: setting it starts a thread."""


@dataclass
class _Watch:
    folder: Path
    timeout: float
    trace: TextIO
    number: int | None = None
    what: str = ""
    armed: float = 0.0


_watch: _Watch | None = None  # of this process; set in workers only


def start(folder: Path, timeout: float | None) -> None:
    """Watch the jobs of this process from now on, if there is a time-out in seconds; traces go to `folder`."""
    global _watch
    if _watch:
        _watch.trace.close()
    _watch = None if timeout is None else _Watch(folder, timeout, (folder / f"hung-{os.getpid()}.txt").open("w"))


@contextlib.contextmanager
def watching(number: int) -> Iterator[None]:
    """The job `number` begins and ends here. It is watched from its first sign of life on."""
    if _watch:
        _watch.number, _watch.what = number, ""
    try:
        yield
    finally:
        if _watch:
            faulthandler.cancel_dump_traceback_later()


def alive(what: str) -> None:
    """A sign of life of the present job.

    Args:
        what: is being done, for the message if it hangs.
    """
    watch = _watch
    if watch is None:
        return
    now = time.monotonic()
    if what != watch.what:
        watch.what = what
        (watch.folder / f"job-{os.getpid()}.txt").write_text(f"{watch.number}\n{watch.timeout}\n{what}")
    elif now - watch.armed < REARM * watch.timeout:
        return
    watch.armed = now
    faulthandler.dump_traceback_later(watch.timeout, exit=True, file=watch.trace)


def hung(folder: Path) -> dict[int, str]:
    """Number of each job that hung since the last call, and a sentence about it: what was done, and where."""
    found: dict[int, str] = {}
    for trace in sorted(folder.glob("hung-*.txt")):
        text = trace.read_text(errors="replace")
        job = folder / trace.name.replace("hung", "job")
        if text and job.exists():
            number, timeout, what = job.read_text().split("\n", 2)
            main = text.rpartition("Thread 0x")[2]  # the threads that wait for nothing but orders come before it
            place = next((line.strip() for line in main.splitlines() if line.strip().startswith("File ")), "")
            found[int(number)] = f"{what} has made no step for {float(timeout):g} s" + (f" ({place})" if place else "")
        trace.unlink()
    return found
