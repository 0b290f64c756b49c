"""Further instructions of tasks, for training on more words than the demonstrations have."""

from __future__ import annotations

import json
from pathlib import Path

from rf_agent.config import INSTRUCTION_BYTES
from rf_agent.demos.files import DemoError


def read_instructions(path: Path) -> dict[str, list[str]]:
    """Instructions by task, of a JSON file in the layout of RoboFlamingo's `enrich_lang_annotations.json`.

    Of an instruction of several lines, which that file has by accident, the first one counts.

    Raises:
        FileNotFoundError, DemoError: no such file, or it holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DemoError(f"{path} is no JSON file: give one of the form {{task: [instruction, ...]}}") from error
    is_one = isinstance(values, dict) and all(
        isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)
        for texts in values.values()
    )
    if not is_one or not values:
        raise DemoError(f"{path} holds something other than instructions: its form is {{task: [instruction, ...]}}")
    found = {task: [text.strip().splitlines()[0].strip() for text in texts] for task, texts in values.items()}
    for task, texts in found.items():
        if long := [text for text in texts if len(text.encode()) > INSTRUCTION_BYTES]:
            raise DemoError(f"{path}: an instruction of {task} has over {INSTRUCTION_BYTES} bytes: {long[0][:40]}...")
    return found
