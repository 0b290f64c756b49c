"""Arguments of an environment, as words on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rf_agent.errors import UserError

ELSEWHERE = {
    "tasks": "name them with --tasks",
    "scene": "the environment's id names it",
    "render_mode": "the command chooses it",
    "simulator": "it has no form as text",
}
"""Arguments that a command sets itself, and what to do instead."""


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as keyword arguments for `gymnasium.make`.

    A value is read as JSON where it is JSON (`300`, `true`, `[128, 64]`), and is text otherwise.

    Raises:
        UserError: a word has no `=`, no key, a key comes twice or is not for the user to set.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--env-options got {word!r}: write NAME=VALUE, such as renderer=tiny")
        if key in ELSEWHERE:
            raise UserError(f"--env-options got {word!r}: leave {key} out, {ELSEWHERE[key]}")
        if key in options:
            raise UserError(f"--env-options has {key} twice: give it once")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options
