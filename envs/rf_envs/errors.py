"""Error texts that name what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INSTALL_PYBULLET = "pip install pybullet (it has wheels for Python 3.9 to 3.11; with others pip compiles it)"


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
    remedy = remedy or f"Choose one of {', '.join(repr(name) for name in names)}."
    raise ValueError(f"Unknown {what} {given!r}; {hint}{remedy}")
