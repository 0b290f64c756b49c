"""The file of finished episodes that lets an evaluation go on where it was stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError
from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.files import write_text

NAME, RESULTS = "episodes.jsonl", "results.json"
"""The files of an evaluation: its finished episodes, and what they come to."""


def parse_record(record: dict[str, Any]) -> tuple[Episode, float]:
    """A line of the journal after the first: the episode, and the wall-clock seconds of the evaluation at its end.

    Raises:
        ValueError, KeyError, TypeError or AttributeError: it is something else.
    """
    fields = dict(record)
    elapsed = float(fields.pop("elapsed"))
    attempts = tuple(Attempt(**attempt) for attempt in fields.pop("attempts"))
    return Episode(attempts=attempts, **fields), elapsed


class Journal:
    """`DIRECTORY/episodes.jsonl`: the settings on the first line, then a line for every finished episode.

    Args:
        directory: made if need be.
        settings: what makes episodes comparable (environment, policy, seed); others are refused.
        requested: what the whole evaluation is, for those who read a journal before it is finished; it may ask for
            more, or for less, than an earlier run did, but for other tasks only where nothing is divided into shards.

    Raises:
        UserError: the directory holds results of different settings, or something that is not a journal.
    """

    def __init__(self, directory: Path, settings: dict[str, Any], requested: Mapping[str, Any] | None = None) -> None:
        self.path = directory / NAME
        settings = json.loads(json.dumps(settings))  # as they are read back: tuples become lists
        self._requested = dict(requested or {})
        self._header = self._first_line(settings)
        self.episodes: dict[str, Episode] = {}
        self.seconds = 0.0  # wall-clock time of earlier runs
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to --output {directory}: {error.strerror or error}") from error
        self._begun = False  # whether the settings in the file are known to be these
        if self.path.exists():
            self._read(settings)
        if not self._begun and (directory / RESULTS).exists():
            raise UserError(
                f"{directory} holds {RESULTS} without the episodes that it is of: give another --output, or delete "
                "that directory"
            )

    def add(self, episode: Episode, seconds: float) -> None:
        """Append a finished episode; `seconds` is the wall-clock time of the whole evaluation so far.

        Raises:
            UserError: another evaluation, perhaps of other settings, has begun in this directory meanwhile.
        """
        line = json.dumps({**asdict(episode), "elapsed": round(seconds, 3)}) + "\n"
        with self.path.open("a", encoding="utf-8") as stream:
            if stream.tell() and not self._begun:
                raise UserError(
                    f"another evaluation has begun in {self.path.parent} since this one did: give another --output, "
                    "or start the same command again when that one has ended"
                )
            stream.write(line if self._begun else self._header + line)
        self._begun = True
        self.episodes[episode.key] = episode

    def discard_if_empty(self) -> None:
        """Remove the directory if nothing was written: an evaluation that failed at once leaves no trace."""
        with contextlib.suppress(OSError):  # it is not empty
            self.path.parent.rmdir()

    def _read(self, settings: dict[str, Any]) -> None:
        text = self.path.read_text(encoding="utf-8")
        if not text:  # a run that ended as it was created
            return
        whole, newline, cut = text.rpartition("\n")
        try:
            header, *lines = [json.loads(line) for line in whole.splitlines()]
            stored = header["settings"]
            for line in lines:
                episode, self.seconds = parse_record(line)
                self.episodes[episode.key] = episode
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} is not a readable list of episodes: delete that directory, or give another --output"
            ) from error
        same_weights = settings.get("weights") and settings.get("weights") == stored.get("weights")
        for name in settings | stored:
            if name == "policy" and same_weights:  # under another name, such as another spelling of its path
                continue
            if stored.get(name) != settings.get(name):
                raise UserError(
                    f"{self.path.parent} holds results for {name} {stored.get(name)!r}, but now {name} is "
                    f"{settings.get(name)!r}: give another --output, or delete that directory"
                )
        before = header.get("requested") or self._requested
        if "shard" in stored and before.get("tasks") != self._requested.get("tasks"):
            raise UserError(
                f"{self.path.parent} holds a shard of other tasks, of which this one would have others again: give the "
                "same --tasks, or another --output for all shards"
            )
        self._begun = True
        asks_for_more = self._requested and self._requested != header.get("requested")
        if cut or asks_for_more:  # cut: the line that was being written when the last run was killed
            first, _, rest = (whole + newline).partition("\n")
            write_text(self.path, (self._first_line(stored) if asks_for_more else first + "\n") + rest)

    def _first_line(self, settings: dict[str, Any]) -> str:
        requested = {"requested": self._requested} if self._requested else {}
        return json.dumps({"settings": settings, **requested}) + "\n"
