"""Arguments of an environment, as words on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rf_agent.errors import UserError


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as keyword arguments for `gymnasium.make`.

    A value is read as JSON where it is JSON (`300`, `true`, `[128, 64]`), and is text otherwise.

    Raises:
        UserError: a word has no `=`, no key, or a key comes twice.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--env-options got {word!r}: write NAME=VALUE, such as renderer=tiny")
        if key in options:
            raise UserError(f"--env-options has {key} twice: give it once")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options
