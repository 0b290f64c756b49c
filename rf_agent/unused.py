"""Options that have no effect where others are given."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from rf_agent.errors import UserError


def refuse_unused(args: Any, names: Iterable[str], where: str, positional: Container[str] = ()) -> None:
    """Refuse options that were given though they have no effect, as nobody would notice.

    Args:
        args: of a command.
        names: of its fields with a default.
        where: what makes them ineffective, such as "--images are given".
        positional: those that are given without their names.

    Raises:
        UserError: one of them has another value than its default.
    """
    for name in names:
        value = getattr(args, name)
        if value != getattr(type(args), name):
            flag = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            option = value if name in positional else flag
            raise UserError(f"{option} has no effect where {where}: leave it out")
