"""PyBullet without its chatter: the library prints a banner on import and a line for each connection."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rf_envs.errors import INSTALL_PYBULLET

_lock = threading.Lock()
_silent = 0  # blocks of `silence` that are entered, in all threads
_saved: list[tuple[int, int]] = []
"""Standard output and standard error, which belong to all threads, and copies of what they were."""


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what C code writes to standard output and standard error out of the terminal."""
    global _silent
    with _lock:
        _silent += 1
        if _silent == 1:
            _redirect()
    try:
        yield
    finally:
        with _lock:
            _silent -= 1
            if not _silent:
                _restore()


def _redirect() -> None:
    with open(os.devnull, "w") as sink:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for number in (1, 2):
            with contextlib.suppress(OSError):
                _saved.append((number, os.dup(number)))
                os.dup2(sink.fileno(), number)


def _restore() -> None:
    # C code keeps its output back when it does not write to a terminal, and would let go of it later
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
    while _saved:
        number, copy = _saved.pop()
        os.dup2(copy, number)
        os.close(copy)


def connect(keeps_files: bool = True) -> Any:
    """A new physics client without a window; its methods are PyBullet's functions.

    Args:
        keeps_files: whether it keeps what it has read, by the files' names, for as long as the process lives. PyBullet
            has one such setting for all clients: one that keeps nothing ends it for all, whose resets take a quarter
            longer then.
    """
    with silence():
        try:
            import pybullet
            from pybullet_utils.bullet_client import BulletClient
        except ImportError as error:
            raise ImportError(f"the play table needs PyBullet, which cannot be imported: {INSTALL_PYBULLET}") from error
        client = BulletClient(pybullet.DIRECT)
        if not keeps_files:
            client.setPhysicsEngineParameter(enableFileCaching=0)
        return client
