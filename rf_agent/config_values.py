"""Dataclasses from plain values, as JSON has them, with errors that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any

from rf_agent.errors import ConfigError


def build(cls: type, values: Any, where: str) -> Any:
    """An instance of dataclass `cls` from `values`; `where` is the dotted path used in errors."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the configuration'} is {values!r}, but it must be a dictionary.")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown configuration key {_join(where, key)!r}; known here are {', '.join(known)}. "
                "Remove it, or use the version of rf_agent that wrote it."
            )
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()})


def check_counts(values: Any, names: Iterable[str], where: str) -> None:
    """Raise ConfigError for the first of some fields of a dataclass that is a whole number below 1, or holds one."""
    for name in names:
        value = getattr(values, name)
        if min(value if isinstance(value, tuple) else (value,), default=1) < 1:
            raise ConfigError(f"{where}.{name} is {value}, but it must be at least 1.")


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, which is one of those used above."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if origin is tuple:
        inner = typing.get_args(hint)
        ragged = isinstance(value, list | tuple) and inner[-1] is not Ellipsis and len(value) != len(inner)
        if not isinstance(value, list | tuple) or ragged:
            size = "" if inner[-1] is Ellipsis else f" of {len(inner)}"
            raise ConfigError(f"{where} is {value!r}, but it must be a list{size}.")
        return tuple(_convert(inner[0], item, where) for item in value)
    if origin is dict:
        hint = dict
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}, but it must be of type {hint.__name__}.")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)


def first_difference(first: dict[str, Any], second: dict[str, Any], where: str = "") -> tuple[str, Any, Any]:
    """The dotted key at which two different dictionaries first differ, and both values; None where one has no such key.

    Raises:
        StopIteration: they are equal.
    """
    keys = dict.fromkeys((*first, *second))
    key = next(key for key in keys if first.get(key) != second.get(key))
    values, path = (first.get(key), second.get(key)), _join(where, key)
    if all(isinstance(value, dict) for value in values):
        return first_difference(first[key], second[key], path)
    return path, *values
