"""PyBullet without its chatter: the library prints a banner on import and a line for each connection."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

from rf_envs.errors import INSTALL_PYBULLET


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what C code writes to standard output and standard error out of the terminal."""
    saved: list[tuple[int, int]] = []
    try:
        with open(os.devnull, "w") as sink:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            for number in (1, 2):
                with contextlib.suppress(OSError):
                    saved.append((number, os.dup(number)))
                    os.dup2(sink.fileno(), number)
        yield
    finally:
        # C code keeps its output back when it does not write to a terminal, and would let go of it later
        with contextlib.suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).fflush(None)
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


def connect() -> Any:
    """A new physics client without a window; its methods are PyBullet's functions."""
    with silence():
        try:
            import pybullet
            from pybullet_utils.bullet_client import BulletClient
        except ImportError as error:
            raise ImportError(f"the play table needs PyBullet, which cannot be imported: {INSTALL_PYBULLET}") from error
        return BulletClient(pybullet.DIRECT)
