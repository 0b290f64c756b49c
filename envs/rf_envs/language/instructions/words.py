"""Words that the instructions share, and when two instructions are the same."""

from __future__ import annotations

OPPOSITE = {"left": "right", "right": "left"}
CLOCK = {"left": "counterclockwise", "right": "clockwise"}
"""How a block turns, seen from above."""
SHADE = {"red": "scarlet", "blue": "azure", "pink": "magenta"}
"""Other names of the colors."""


def plain(text: str) -> str:
    """The text as instructions are compared: in lower case, with single spaces and without a closing mark."""
    return " ".join(text.lower().split()).rstrip(" .!?")
