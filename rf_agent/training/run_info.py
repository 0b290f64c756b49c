"""What a run was: command, settings, code, versions and data, kept beside its results."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rf_agent.demos.readers import DemoReader
from rf_agent.demos.windows import DemoSet
from rf_agent.evaluation.results import versions
from rf_agent.training.settings import LoopConfig

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
    try:
        starts = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        starts = []
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
    path.write_text(json.dumps(starts, indent=2, default=str) + "\n")
    return path


def demos_facts(readers: Sequence[DemoReader], demos: DemoSet) -> dict[str, Any]:
    """Which demonstrations a run has: files, and how many of each task."""
    tasks: dict[str, int] = {}
    for episode in demos.episodes:
        tasks[episode.task] = tasks.get(episode.task, 0) + 1
    return {
        "files": [{"name": reader.path.name, "demonstrations": len(reader.records)} for reader in readers],
        "frames": len(demos.frames),
        "tasks": dict(sorted(tasks.items())),
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
