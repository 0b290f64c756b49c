"""Running stages: each as a command of its own, once, and what it measured kept in one file."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError
from rf_agent.files import write_json
from rf_agent.progress import Reporter, duration
from rf_agent.reproduce.recipe import Recipe, claim
from rf_agent.reproduce.results import Results, facts_of
from rf_agent.reproduce.stages import Stage, in_order
from rf_agent.training.settings import CHECKPOINT

MARK = "stage.json"
RENDERS = ("collect", "collect-vl", "pretrain", "evaluate")
"""Commands that take `--workers` for simulators."""
COMPUTES = ("pretrain", "train", "evaluate", "evaluate-vl")
"""Commands that take `--device`."""
RESULTS = {"pretrain": "vlm", "train": "policy"}
"""Checkpoint directories that a stage leaves."""


class Reproduction:
    """A folder in which stages of one recipe are run.

    Args:
        folder: where everything lies; made if it is not there.
        recipe: the budget.
        workers: simulator processes of a command; as many as it chooses itself if None.
        device: where networks compute.
        reporter: hears what begins and ends.

    Raises:
        UserError: the folder holds results of another recipe.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, workers: int | None = None, device: str = "auto", *, reporter: Reporter
    ) -> None:
        self.folder, self.reporter = folder, reporter
        self.workers, self.device = workers, device
        claim(folder, recipe)
        self.results = Results.of(folder, recipe)

    def run(self, stages: Sequence[Stage]) -> None:
        """Run what is not done yet of some stages and of what they need.

        Raises:
            UserError: a command failed, a stage was made by another command, or its result is gone.
        """
        ordered = in_order(tuple(stages))
        for stage in ordered:
            self._check(stage)
        left = [stage for stage in ordered if not self.is_done(stage)]
        self._check_outdated(ordered, left)
        for number, stage in enumerate(left, 1):
            self.reporter.log(f"[{number}/{len(left)}] {stage.command}")
            seconds = self._run(stage)
            self.reporter.log(f"[{number}/{len(left)}] {stage.folder}: {duration(seconds)}")
        for stage in ordered:
            if stage.folder not in self.results.stages:
                self._keep(stage)

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage has finished."""
        return bool(self._mark(stage).get("finished"))

    def _run(self, stage: Stage) -> float:
        mark = self._mark(stage) or {"command": stage.command, "seconds": 0.0, "finished": False}
        path = self.folder / stage.folder / MARK
        write_json(path, mark)
        started = time.monotonic()
        try:
            code = subprocess.run(self._arguments(stage), cwd=self.folder, env=_environment()).returncode
        finally:  # interrupted ones count, too
            mark["seconds"] = round(mark["seconds"] + time.monotonic() - started, 1)
            write_json(path, mark)
        if code:
            raise UserError(
                f"{stage.folder} failed, see above; in {self.folder} it runs as\n{shlex.join(self._words(stage))}"
            )
        mark["finished"] = True
        write_json(path, mark)
        self._keep(stage)
        return mark["seconds"]

    def _keep(self, stage: Stage) -> None:
        self.results.add(stage, self._mark(stage)["seconds"], facts_of(stage, self.folder / stage.folder))
        self.results.save(self.folder)

    def _words(self, stage: Stage) -> list[str]:
        words = ["rf-agent", *stage.words, "--output", stage.output]
        if stage.kind in RENDERS and self.workers is not None:
            words += ["--workers", str(self.workers)]
        if stage.kind in COMPUTES and self.device != "auto":
            words += ["--device", self.device]
        if stage.kind in RESULTS and (self.folder / stage.folder / CHECKPOINT).exists():
            words.append("--resume")
        return words

    def _arguments(self, stage: Stage) -> list[str]:
        return [sys.executable, "-m", "rf_agent.cli", *self._words(stage)[1:]]

    def _mark(self, stage: Stage) -> dict[str, Any]:
        path = self.folder / stage.folder / MARK
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): delete {stage.folder} to make it again") from error

    def _check(self, stage: Stage) -> None:
        mark = self._mark(stage)
        if not mark:
            return
        if mark["command"] != stage.command:
            raise UserError(
                f"{self.folder / stage.folder} is of another recipe, made by `{mark['command']}`, but now it is "
                f"`{stage.command}`: choose another --output, or delete that folder to make it again"
            )
        if mark["finished"] and stage.kind in RESULTS:
            checkpoint = self.folder / stage.folder / RESULTS[stage.kind]
            if not checkpoint.is_dir():
                raise UserError(
                    f"the checkpoint {checkpoint} is missing, though its stage has finished: delete "
                    f"{self.folder / stage.folder} to train it again, or put it back"
                )

    def _check_outdated(self, ordered: Sequence[Stage], left: Sequence[Stage]) -> None:
        """What is to be made again must not leave behind what was made of it before."""
        for stage in ordered:
            again = [needed.folder for needed in stage.needs if needed in left]
            if again and stage not in left:
                raise UserError(
                    f"{self.folder / stage.folder} was made of {', '.join(again)}, which is to be made again: delete "
                    f"{self.folder / stage.folder}, too"
                )


def _environment() -> dict[str, str]:
    """That of a command which finds the same packages from another folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)}
