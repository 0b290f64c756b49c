"""What a run was: command, settings, code, versions and data, kept beside its results."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rf_agent.demos.readers import DemoReader
from rf_agent.demos.windows import DemoSet
from rf_agent.errors import UserError
from rf_agent.files import write_text
from rf_agent.training.callbacks import Callback
from rf_agent.training.settings import LoopConfig
from rf_agent.versions import versions

RUN = "run.json"
PACKAGES = ("roboflamingo-agent", "torch", "transformers", "accelerate", "numpy")


def write_run_info(output: Path, command: str, config: LoopConfig, data: dict[str, Any]) -> Path:
    """Append this start of a run to `run.json`: a resumed run has several.

    Args:
        output: directory of the run.
        command: the command line.
        config: all settings.
        data: see `demos_facts`.
    """
    path = output / RUN
    starts = _starts(path)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    starts.append(
        {
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "settings": settings,
            "git_revision": git_revision(),
            "versions": versions(PACKAGES),
            "data": data,
        }
    )
    write_text(path, json.dumps(starts, indent=2, default=str) + "\n")
    return path


def _starts(path: Path) -> list[dict[str, Any]]:
    """What is written of a run's starts; none if there is no such file."""
    try:
        return list(json.loads(path.read_text()))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}), and says with which data the run began: remove it to go on all the same"
        ) from error


class RunInfo(Callback):
    """Writes down how a run goes on, when nothing of that can be refused any more.

    Args:
        output, command, config, data: as of `write_run_info`.
    """

    def __init__(self, output: Path, command: str, config: Any, data: dict[str, Any]) -> None:
        self._written = output, command, config, data

    def on_start(self, step: int) -> None:
        write_run_info(*self._written)


def check_same_data(output: Path, data: dict[str, Any]) -> None:
    """Make sure that a resumed run goes on with the data that it began with, wherever they lie now.

    Args:
        output: directory of the run.
        data: see `demos_facts`, with what `contents` found under that name. What a run of an older version did not
            write down is not compared.

    Raises:
        UserError: there are others now; the first that differs is named. Or `run.json` is damaged.
    """
    starts = _starts(output / RUN)
    try:
        first = starts[0]["data"]
        begun = first["files"]
    except (LookupError, TypeError):
        return
    remedy = "resume with the same, or begin another --output, from its result with --init"
    if len(begun) != len(data["files"]):
        raise UserError(
            f"{output} began with {len(begun)} files of demonstrations, but now there are {len(data['files'])}: "
            f"{remedy}"
        )
    for before, now in zip(begun, data["files"], strict=True):
        if before["demonstrations"] != now["demonstrations"]:
            raise UserError(
                f"{output} began with {before['demonstrations']} demonstrations of {before['name']}, but now "
                f"{now['name']} has {now['demonstrations']}: {remedy}"
            )
        if before.get("content", now["content"]) != now["content"]:
            raise UserError(f"{output} began with other demonstrations than {now['name']} has now: {remedy}")
    images, images_now = (facts.get("scene_images") for facts in (first, data))
    if images != images_now:
        had, has = ((facts or {}).get("images", 0) for facts in (images, images_now))
        raise UserError(
            f"{output} began with {had} scene images, but now there are {has}: {remedy}"
            if had != has
            else f"{output} began with {had} scene images, but now there are others: {remedy}"
        )
    contents = data.get("contents", {})
    begun_with = first.get("contents", contents)
    for option in sorted({*contents, *begun_with}):
        had, has = begun_with.get(option), contents.get(option)
        if had != has:
            how = "without" if had is None else "with" if has is None else "with other content of"
            raise UserError(f"{output} began {how} {option}: {remedy}")


def demos_facts(readers: Sequence[DemoReader], demos: DemoSet) -> dict[str, Any]:
    """Which demonstrations a run has: files, and how many of each task."""
    tasks: dict[str, int] = {}
    for episode in demos.episodes:
        tasks[episode.task] = tasks.get(episode.task, 0) + 1
    return {
        "files": [
            {
                "name": reader.path.name,
                "demonstrations": len(reader.records),
                "content": demos.frames.fingerprint(index),
            }
            for index, reader in enumerate(readers)
        ],
        "frames": len(demos.frames),
        "tasks": dict(sorted(tasks.items())),
    }


def contents(config: LoopConfig) -> dict[str, str]:
    """A digest of what each of `config.by_content` names, by its option."""
    from rf_agent.evaluation.agents import fingerprint

    given = {name: value for name in config.by_content if (value := getattr(config, name)) is not None}
    return {
        f"--{name.replace('_', '-')}": hashlib.blake2b(value.read_bytes(), digest_size=12).hexdigest()
        if isinstance(value, Path)
        else fingerprint(value)
        for name, value in given.items()
    }


def git_revision() -> str | None:
    """The commit of this package's source with "-dirty" where it was changed; None where it is no git checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
