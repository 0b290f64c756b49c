"""Reading the folder of an evaluation, finished or not, without changing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError
from rf_agent.evaluation import journal
from rf_agent.evaluation.metrics import Episode
from rf_agent.evaluation.shards import Shard

REMEDY = "give a folder that `rf-agent evaluate` wrote"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What one `rf-agent evaluate --output PATH` has left so far."""

    path: Path
    settings: dict[str, Any]
    """The journal's settings without the shard: environment, policy, weights, seed and what changes the execution."""
    shard: Shard | None
    """Which part of the evaluation this is; None for all of it."""
    episodes: dict[str, Episode]
    """By key, in the order in which they finished."""
    seconds: float
    """Wall-clock time of the evaluation."""
    results: dict[str, Any]
    """`results.json`; empty before the first command on the folder has finished."""
    requested: dict[str, Any]
    """What the whole evaluation is, all shards together: `chains`, or `tasks` and `episodes_per_task`; may be empty."""
    notes: tuple[str, ...]
    """What was wrong with the files, in sentences."""

    @property
    def expected(self) -> list[str] | None:
        """Keys of the episodes of the whole evaluation, in their order; None where the folder does not say."""
        if "chains" in self.requested:
            return [f"chain/{index}" for index in range(self.requested["chains"])]
        if "tasks" in self.requested:
            count = self.requested["episodes_per_task"]
            return [f"{task}/{index}" for index in range(count) for task in self.requested["tasks"]]
        return None

    @property
    def chained(self) -> bool:
        """Whether its episodes are chains."""
        return any(episode.chain is not None for episode in self.episodes.values())


def read_folder(path: Path) -> RunFolder:
    """Read the journal and the results of an evaluation. Lines that cannot be read are left out with a note.

    Raises:
        UserError: there is no such folder, no journal in it, or nothing that can be read.
    """
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: {REMEDY}")
    file = path / journal.NAME
    if not file.is_file():
        raise UserError(f"{path} holds no {journal.NAME}: {REMEDY}")
    settings, requested, episodes, seconds, notes = _read_journal(file)
    results: dict[str, Any] = {}
    try:
        results = dict(json.loads((path / "results.json").read_text(encoding="utf-8")))
        seconds = max(seconds, float(results.get("seconds", 0.0)))
        requested = _requested(results) or requested
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, AttributeError):
        notes.append(f"{path / 'results.json'} cannot be read and is left out.")
    shard = settings.pop("shard", None)
    return RunFolder(
        path=path,
        settings=settings,
        shard=None if shard is None else _shard(str(shard), file),
        episodes=episodes,
        seconds=seconds,
        results=results,
        requested=requested,
        notes=tuple(notes),
    )


def _read_journal(file: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Episode], float, list[str]]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}): {REMEDY}") from error
    whole, _, cut = text.rpartition("\n")
    first, *lines = whole.split("\n")
    try:
        header = json.loads(first)
        settings, requested = dict(header["settings"]), _requested({"requested": header.get("requested")})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "is empty" if not text.strip() else "is not a readable list of episodes"
        raise UserError(f"{file} {what}: {REMEDY}") from error
    episodes: dict[str, Episode] = {}
    seconds, unreadable = 0.0, []
    for number, line in enumerate(lines, start=2):
        try:
            episode, elapsed = journal.parse_record(json.loads(line))
            episodes[episode.key], seconds = episode, max(seconds, elapsed)
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(str(number))
    notes = []
    if unreadable:
        named = ", ".join(unreadable[:5]) + (", …" if len(unreadable) > 5 else "")
        count = f"{len(unreadable)} line{'s' if len(unreadable) > 1 else ''}"
        notes.append(f"{count} of {file} cannot be read and count as not played (line {named}).")
    if cut:
        notes.append(f"The last line of {file} is cut off and counts as not played.")
    if not episodes:
        raise UserError(f"{file} holds no finished episode: wait for the first one, or {REMEDY}")
    return settings, requested, episodes, seconds, notes


def _requested(results: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` says was asked for; versions that do not say it asked for the chains they played."""
    requested = dict(results.get("requested") or {})
    if not requested and results.get("chains") and not results.get("shard"):
        requested = {"chains": results["chains"]}
    if "chains" in requested:
        return {"chains": int(requested["chains"])}
    if "tasks" in requested and "episodes_per_task" in requested:
        tasks = [str(task) for task in requested["tasks"]]
        return {"tasks": tasks, "episodes_per_task": int(requested["episodes_per_task"])}
    return {}


def _shard(text: str, file: Path) -> Shard:
    try:
        return Shard.parse(text)
    except UserError as error:
        raise UserError(f"{file} cannot be read: {error}") from error
