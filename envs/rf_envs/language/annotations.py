"""Instructions from CALVIN's own files.

Three formats are known by what they hold:

- task to sentences, in YAML (CALVIN's `new_playtable_validation.yaml`: one sentence each) or in JSON
  (RoboFlamingo's `enrich_lang_annotations.json`: about fifty each);
- a list of the 1000 chains, each a list of its five sub-tasks' sentences, in JSON (RoboFlamingo's
  `lang_annotation_cache.json`).

Of an entry with several lines the first one counts, as in the evaluation code of their authors.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rf_envs.benchmark.chains import CHAIN_LENGTH, NUM_CHAINS
from rf_envs.benchmark.tasks import TASKS
from rf_envs.errors import check_choice
from rf_envs.language.instructions.words import plain
from rf_envs.spaces import encode_instruction

_FORMATS = (
    "expected a mapping of the 34 tasks to lists of sentences (such as CALVIN's new_playtable_validation.yaml), or a "
    f"list of {NUM_CHAINS} chains with {CHAIN_LENGTH} sentences each (such as lang_annotation_cache.json)"
)


@dataclass(frozen=True)
class Annotations:
    """What a file says: one of the two is empty, and both where there is no file."""

    by_task: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Task to its sentences, one or more."""
    by_chain: tuple[tuple[str, ...], ...] = ()
    """The sentence of each sub-task of each chain."""

    def task_of(self, instruction: str) -> str | None:
        """The first task in the file that has this sentence, whatever its case, spaces and closing mark."""
        wanted = plain(instruction)
        return next((task for task, texts in self.by_task.items() if wanted in map(plain, texts)), None)


def read_annotations(path: str | os.PathLike[str] | None, chains: bool = False) -> Annotations:
    """Read one of CALVIN's files of instructions.

    Args:
        path: the file; None for none, which gives no sentences.
        chains: whether they are for CALVIN's chains, so that a file with sentences for chains will do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of the known formats, something in it is missing or malformed (the message names
            the place), or it is for chains and `chains` is false.
        ImportError: it is YAML and PyYAML is not installed.
    """
    if path is None:
        return Annotations()
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"annotations is {path!r}; expected the path of a file.")
    path = Path(path).expanduser()
    content = _parse(path)
    if isinstance(content, dict):
        return Annotations(by_task=_by_task(content, path))
    if isinstance(content, list) and not chains:
        raise ValueError(
            f"The annotations in {path} are a list, as for chains of tasks, but this environment has single tasks; "
            "give a file that maps tasks to sentences, or use a chain environment."
        )
    if isinstance(content, list):
        return Annotations(by_chain=_by_chain(content, path))
    raise ValueError(f"The annotations in {path} are a {type(content).__name__}; {_FORMATS}.")


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file of annotations {path}; give the path of one of CALVIN's.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the annotations in {path} ({error}); {_FORMATS}.") from error
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"The annotations in {path} are broken JSON ({error}); {_FORMATS}.") from error
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"Reading the annotations in {path} needs PyYAML; pip install pyyaml.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"The annotations in {path} are neither JSON nor YAML ({error}); {_FORMATS}.") from error


def _by_task(content: dict[Any, Any], path: Path) -> dict[str, tuple[str, ...]]:
    for task in content:
        check_choice("task", task, TASKS, f"correct its name in {path}.")
    missing = [task for task in TASKS if task not in content]
    if missing:
        raise ValueError(f"The annotations in {path} have no sentence for {', '.join(missing)}; {_FORMATS}.")
    return {task: _sentences(content[task], f"{path}, {task}") for task in content}


def _by_chain(content: list[Any], path: Path) -> tuple[tuple[str, ...], ...]:
    if len(content) != NUM_CHAINS:
        raise ValueError(f"The annotations in {path} are a list of {len(content)}; {_FORMATS}.")
    chains = tuple(_sentences(texts, f"{path}, chain {index}") for index, texts in enumerate(content))
    for index, texts in enumerate(chains):
        if len(texts) != CHAIN_LENGTH:
            raise ValueError(f"Chain {index} in {path} has {len(texts)} sentences; {_FORMATS}.")
    return chains


def _sentences(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"In {place}: expected a list of sentences, found {str(value)[:60]!r}.")
    return tuple(_sentence(text, place) for text in value)


def _sentence(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"In {place}: expected a sentence, found {value!r}.")
    text = value.strip().splitlines()[0].strip()
    try:
        encode_instruction(text)
    except ValueError as error:
        raise ValueError(f"In {place}: {error}") from error
    return text
