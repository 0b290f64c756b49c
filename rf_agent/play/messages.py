"""What a page may say to its table: JSON objects with a `do`, checked before anything else reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

MAX_BYTES = 4096
"""Of one message; the longest instruction takes 256."""
MAX_SEED = 2**31 - 1
AXES = ("x", "y", "z", "roll", "pitch", "yaw")
"""What a hand can move: right, away and up; then turns about these axes."""


class BadMessage(ValueError):
    """A message that no page of ours sends. Its text is one sentence."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return fits


def _one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _axes(value: Any) -> bool:
    unit = _number(-1, 1)
    return isinstance(value, dict) and all(axis in AXES and unit(amount) for axis, amount in value.items())


COMMANDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "ask": {"instruction": _text},
    "stop": {},
    "pause": {"on": _truth},
    "step": {},
    "speed": {"factor": _number(0.1, 4)},
    "reset": {"seed": _whole(0, MAX_SEED)},
    "scene": {"name": _text},
    "chain": {"index": _whole(0, MAX_SEED)},
    "actor": {"name": _text},
    "action_steps": {"count": _whole(1, 1000)},
    "drive": {"axes": _axes, "gripper": _one_of("open", "close", "keep"), "frame": _one_of("view", "table")},
    "video": {"on": _truth},
    "record": {"on": _truth},
    "keep": {},
}
"""What can be done, and what each of its entries must be."""


def parse(data: str | bytes) -> dict[str, Any]:
    """The command that a message holds.

    Raises:
        BadMessage: it is too long, no JSON object, or holds another thing than a command of `COMMANDS`.
    """
    if isinstance(data, bytes):
        raise BadMessage("The message is binary; a page sends text.")
    if len(data) > MAX_BYTES:
        raise BadMessage(f"The message has {len(data)} characters; a page sends at most {MAX_BYTES}.")
    try:
        message = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadMessage("The message is not JSON.") from None
    if not isinstance(message, dict):
        raise BadMessage("The message is not a JSON object.")
    name = message.get("do")
    if not isinstance(name, str) or name not in COMMANDS:
        raise BadMessage(f"The message asks to do {str(name)[:40]!r}; a page asks for one of {', '.join(COMMANDS)}.")
    wanted = COMMANDS[name]
    for key in message.keys() - {"do"} - wanted.keys():
        raise BadMessage(f"The message {name!r} has an entry {str(key)[:40]!r}, which it does not take.")
    for key, fits in wanted.items():
        if key not in message or not fits(message[key]):
            raise BadMessage(f"The message {name!r} needs another {key!r} than {str(message.get(key))[:40]!r}.")
    return message


def _refuse(constant: str) -> float:
    raise ValueError(constant)
