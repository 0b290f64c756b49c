"""Evaluations as a report sees them: folders read, and the shards of one evaluation put together."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rf_agent.config_values import first_difference
from rf_agent.errors import UserError
from rf_agent.evaluation.metrics import CHAIN_LENGTH, Episode
from rf_agent.evaluation.results import build_results
from rf_agent.evaluation.run_folder import RunFolder, read_folder
from rf_agent.evaluation.shards import Shard
from rf_agent.names import short_name

NAMED = 12  # episodes that a sentence names
COMMON = ("env", "env_options", "renderer", "policy", "weights", "seed")
"""Settings that every journal has; others say how a policy acts."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One evaluation, whether one folder or several shards hold it."""

    label: str
    """What it is called in tables and plots, unique within a report."""
    folders: tuple[Path, ...]
    shards: tuple[str, ...]
    """The parts that it was put together from; empty for an evaluation in one piece."""
    settings: dict[str, Any]
    execution: dict[str, Any]
    versions: dict[str, str]
    requested: dict[str, Any]
    episodes: tuple[Episode, ...]
    """In the order of the evaluation, whatever the order in which they finished."""
    total: int | None
    """Episodes of the whole evaluation; None where the folder does not say."""
    length: int
    """Sub-tasks in an episode."""
    seconds: float
    notes: tuple[str, ...]
    """What the reader of the report must know, in sentences."""

    @property
    def chained(self) -> bool:
        """Whether its episodes are chains."""
        return any(episode.chain is not None for episode in self.episodes)

    @property
    def scored(self) -> bool:
        """Whether its environment says what a success is; otherwise only the rewards count."""
        return any(episode.attempts for episode in self.episodes)

    @property
    def rewarded(self) -> bool:
        """Whether its records have the rewards, unlike those of earlier versions."""
        return any(episode.reward for episode in self.episodes) or not any(e.completed for e in self.episodes)

    def results(self) -> dict[str, Any]:
        """The content of `results.json`, as one run of all its episodes writes it."""
        results = build_results(
            self.episodes,
            env=self.settings.get("env", "unknown"),
            env_options=self.settings.get("env_options", {}),
            policy=self.settings.get("policy", "unknown"),
            weights=self.settings.get("weights"),
            seed=self.settings.get("seed", 0),
            renderer=self.settings.get("renderer", "unknown"),
            seconds=self.seconds,
            length=self.length,
            execution=self.execution,
            requested=self.requested,
        )
        if not self.rewarded:
            del results["return"]
        return results | {"versions": self.versions}


def read_runs(folders: Sequence[Path], allow_missing: bool = False) -> list[Run]:
    """The evaluations that the folders hold, in their order; shards of one evaluation become one.

    Args:
        folders: written by `rf-agent evaluate`.
        allow_missing: merge shards even if some are missing or have not finished, with a note.

    Raises:
        UserError: a folder cannot be read or comes twice, or shards overlap or are incomplete.
    """
    if not folders:
        raise UserError("no evaluation was given: name at least one folder that `rf-agent evaluate` wrote")
    for path, times in Counter(path.resolve() for path in folders).items():
        if times > 1:
            raise UserError(f"{path} is given {times} times: give every folder once")
    groups: dict[str, list[RunFolder]] = {}
    for number, path in enumerate(folders):
        folder = read_folder(path)
        groups.setdefault(_identity(folder) if folder.shard else str(number), []).append(folder)
    if not allow_missing:
        _refuse_strangers([group for group in groups.values() if group[0].shard])
    runs = [_merged(group, allow_missing) if group[0].shard else _single(group[0]) for group in groups.values()]
    return [replace(run, label=label) for run, label in zip(runs, _labels(runs), strict=True)]


def _identity(folder: RunFolder) -> str:
    """Equal for shards of one evaluation."""
    return json.dumps(_conditions(folder), sort_keys=True)


def _conditions(folder: RunFolder) -> dict[str, Any]:
    """Settings that shards of one evaluation share. Its machines may keep the same weights in different places."""
    return {name: value for name, value in folder.settings.items() if name != "policy" or not _weights(folder)}


def _refuse_strangers(groups: list[list[RunFolder]]) -> None:
    """Shards that would complete each other, had they been played alike: what differs is said, not what is missing."""
    for one, other in itertools.combinations(groups, 2):
        mine, theirs = ({folder.shard for folder in group} for group in (one, other))
        counts = {shard.count for shard in mine | theirs if shard}
        if len(counts) == 1 and not mine & theirs and len(mine | theirs) <= counts.pop():
            name, value, another = first_difference(_conditions(one[0]), _conditions(other[0]))
            raise UserError(
                f"{one[0].path} and {other[0].path} are shards of different evaluations, with {name} {value} and "
                f"{another}: play them alike, or --allow-missing to report on each"
            )


def _weights(folder: RunFolder) -> str | None:
    return folder.settings.get("weights")


def _single(folder: RunFolder) -> Run:
    expected = folder.expected
    notes = list(folder.notes)
    if expected is None:
        keys = list(folder.episodes)
        total = folder.results.get("episodes")
        if total is None or total < len(keys):  # it says only what an earlier command played
            total = None
    else:
        keys = [key for key in expected if key in folder.episodes]
        total = len(expected)
        if further := len(folder.episodes) - len(keys):
            notes.append(
                f"{folder.path} also holds {further} episodes that its last finished command did not ask for; "
                "they are left out."
            )
    kind = "chains" if folder.chained else "episodes"
    if total is None and not folder.results:
        notes.append(f"{folder.path} has not finished: {len(keys)} {kind} so far.")
    elif total is not None and len(keys) < total:
        notes.append(f"{folder.path} has not finished: {len(keys)} of {total} {kind} so far.")
    return _run([folder], keys, total, notes)


def _merged(folders: list[RunFolder], allow_missing: bool) -> Run:
    """Shards of one evaluation as one.

    Raises:
        UserError: they overlap, belong to different divisions, or some are missing.
    """
    folders = sorted(folders, key=lambda folder: folder.shard.index if folder.shard else 0)
    shards = [folder.shard for folder in folders if folder.shard]
    _refuse_overlap(folders)
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        raise UserError(
            f"the folders hold shards of {' and of '.join(map(str, counts))} ({_listed(folders)}): "
            "give the shards of one division"
        )
    asked = {json.dumps(folder.requested): folder for folder in folders if folder.requested}
    if len(asked) > 1:
        one, other = list(asked.values())[:2]
        raise UserError(
            f"{one.path} is a shard of {_amount(one)} but {other.path} of {_amount(other)}: "
            "give shards of the same evaluation"
        )
    whole = next(iter(asked.values()), folders[0])
    found = {key for folder in folders for key in folder.episodes}
    parts = [Shard(index, counts[0]) for index in range(1, counts[0] + 1)]
    absent = [str(part) for part in parts if part not in shards]
    missing = [key for key in whole.expected or () if key not in found]
    unfinished = [folder for folder in folders if whole.expected is None and not folder.results]
    notes = [note for folder in folders for note in folder.notes]
    if said := _incomplete(absent, missing, unfinished):
        if not allow_missing:
            raise UserError(f"{said}: play and give the rest, or --allow-missing to report on what there is")
        notes.append(f"{said[0].upper()}{said[1:]}. What follows is about the rest.")
    if whole.expected is None:
        keys = [key for folder in folders for key in folder.episodes]
        return _run(folders, sorted(keys, key=_order), None, notes)
    keys = [key for key in whole.expected if key in found]
    if further := len(found) - len(keys):
        notes.append(f"The shards also hold {further} episodes that were not asked for; they are left out.")
    versions = {json.dumps(folder.results["versions"]) for folder in folders if folder.results.get("versions")}
    if len(versions) > 1:
        notes.append("The shards were played with different versions of packages; those of the first are listed.")
    return _run(folders, keys, len(whole.expected), notes, whole)


def _refuse_overlap(folders: list[RunFolder]) -> None:
    for index, folder in enumerate(folders):
        for other in folders[:index]:
            if folder.shard == other.shard and folder.shard:
                raise UserError(f"{other.path} and {folder.path} are both shard {folder.shard}: give one of them")
            if both := [key for key in other.episodes if key in folder.episodes]:
                raise UserError(
                    f"{other.path} and {folder.path} overlap, both hold {_named(both)}: "
                    "give shards that were played with the same N of --shard I/N"
                )


def _incomplete(absent: list[str], missing: list[str], unfinished: list[RunFolder]) -> str:
    """What is missing, as a clause without its end; empty where nothing is."""
    parts = []
    if absent:
        parts.append(f"{'shards' if len(absent) > 1 else 'shard'} {', '.join(absent)} {_be(absent)} not given")
    if missing:
        parts.append(f"{_named(missing)} {_be(missing)} missing")
    if unfinished:
        names = ", ".join(str(folder.path) for folder in unfinished)
        parts.append(f"{names} {'have' if len(unfinished) > 1 else 'has'} not finished")
    return ", and ".join(parts)


def _be(things: Sequence[object]) -> str:
    return "are" if len(things) > 1 else "is"


def _run(
    folders: list[RunFolder], keys: list[str], total: int | None, notes: list[str], whole: RunFolder | None = None
) -> Run:
    first = next((folder for folder in folders if folder.results), folders[0])
    episodes = {key: episode for folder in folders for key, episode in folder.episodes.items()}
    chained = any(folder.chained for folder in folders)
    reported = len(first.results.get("success_rate") or ())
    # without results.json the execution is what differs from the checkpoint
    changes = {name: value for name, value in folders[0].settings.items() if name not in COMMON}
    return Run(
        label=str(folders[0].settings.get("policy", "unknown")),
        folders=tuple(folder.path for folder in folders),
        shards=tuple(str(folder.shard) for folder in folders if folder.shard),
        settings=folders[0].settings,
        execution=dict(first.results.get("execution") or changes),
        versions=dict(first.results.get("versions") or {}),
        requested=(whole or folders[0]).requested,
        episodes=tuple(episodes[key] for key in keys),
        total=total,
        length=reported or (CHAIN_LENGTH if chained else 1),
        seconds=sum(folder.seconds for folder in folders),
        notes=tuple(notes),
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    """Short names of the policies; where several are called the same, with the folder of the run."""
    names = [short_name(run.label) for run in runs]
    shared = {name for name, times in Counter(names).items() if times > 1}
    names = [
        f"{name} ({run.folders[0].resolve().name})" if name in shared else name
        for name, run in zip(names, runs, strict=True)
    ]
    shared = {name for name, times in Counter(names).items() if times > 1}
    return [f"{name} #{number}" if name in shared else name for number, name in enumerate(names, start=1)]


def _order(key: str) -> tuple[int, str]:
    task, _, index = key.rpartition("/")
    return (int(index) if index.isdecimal() else 0), task


def _named(keys: Iterable[str]) -> str:
    """Episodes in words: "chains 1, 4 and 7", the first few of many."""
    keys = sorted(keys, key=_order)
    chains = all(key.startswith("chain/") for key in keys)
    names = [key.removeprefix("chain/") if chains else key for key in keys]
    kind = ("chain" if chains else "episode") + ("s" if len(keys) > 1 else "")
    if len(names) > NAMED:
        return f"{kind} {', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return f"{kind} {' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)}"


def _listed(folders: list[RunFolder]) -> str:
    return ", ".join(f"{folder.shard} in {folder.path}" for folder in folders)


def _amount(folder: RunFolder) -> str:
    expected = folder.expected or []
    return f"{len(expected)} {'chains' if folder.chained else 'episodes'}"
