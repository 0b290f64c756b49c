"""JSON files of annotations: lists of entries, checked before they are used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rf_agent.demos.files import DemoError


def read_entries(
    path: Path, key: str, fields: Mapping[str, type], kind: str, unique: str | None = None
) -> list[dict[str, Any]]:
    """The list `key` of a JSON file.

    Args:
        path: the file.
        key: name of the list in it.
        fields: what each entry holds, and of which type.
        kind: what the file should be, for messages, such as "captions in COCO's layout".
        unique: a field in which no two entries are the same, such as a number that others refer to.

    Raises:
        FileNotFoundError: the file is missing.
        DemoError: it is no JSON, has no such list, an entry lacks something, or two have the same number.
    """
    content = _content(path, kind)
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DemoError(f"{path} has no list {key!r}: give {kind}")
    if not entries:
        raise DemoError(f"{path} is empty, its list {key!r} has no entry: give {kind}")
    for number, entry in enumerate(entries):
        for field, expected in fields.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(field), expected):
                raise DemoError(
                    f"{path}: entry {number} of {key!r} has no {field!r} of type {expected.__name__}: give {kind}"
                )
    if unique is not None:
        seen: set[Any] = set()
        for number, entry in enumerate(entries):
            if entry[unique] in seen:
                raise DemoError(
                    f"{path}: entry {number} of {key!r} has the {unique!r} {entry[unique]} of an earlier one: give "
                    f"each its own, as {kind} have it"
                )
            seen.add(entry[unique])
    return entries


def _content(path: Path, kind: str) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: give {kind}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DemoError(f"{path} is not valid JSON ({error}): copy it again, or give {kind}") from error
