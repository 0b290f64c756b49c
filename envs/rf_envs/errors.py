"""Error texts that name what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable

INSTALL_PYBULLET = (
    "pip install pybullet"
    if sys.version_info < (3, 12)
    else "PyBullet has no wheel for this Python: use Python 3.11, or compile it with "
    "`pip install 'roboflamingo-agent[pybullet]'` (with a C++ compiler: 16 minutes of one core, shared by all)"
)


def require_pybullet(what: str) -> None:
    """Raise ImportError with the way out where PyBullet is not installed; `what` needs it. Imports nothing."""
    if importlib.util.find_spec("pybullet") is None:
        raise ImportError(f"{what} needs PyBullet, which is not installed: {INSTALL_PYBULLET}")


def check_choice(what: str, given: object, known: Iterable[str], remedy: str = "") -> str:
    """Return ``given`` if it is one of ``known``.

    Args:
        what: what the name is of, for the message ("task", "scene", "reset option").
        given: the name to check.
        known: the allowed names.
        remedy: a closing clause for the message; the default lists the allowed names.

    Raises:
        ValueError: ``given`` is none of ``known``; the message suggests the closest names.
    """
    names = tuple(known)
    if isinstance(given, str) and given in names:
        return given
    close = difflib.get_close_matches(str(given), names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    remedy = remedy or f"choose one of {', '.join(repr(name) for name in names)}."
    raise ValueError(f"Unknown {what} {given!r}; {hint}{remedy}")
