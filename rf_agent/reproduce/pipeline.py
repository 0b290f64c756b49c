"""Running stages: each as a command of its own, once, after what it needs, going on where it was stopped."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from rf_agent.checkpoint_files import CHECKPOINT, RESULTS
from rf_agent.errors import UserError
from rf_agent.files import folder_lock, write_json
from rf_agent.interrupts import SIGTERM, sigterm_like_ctrl_c
from rf_agent.progress import Reporter, duration
from rf_agent.reproduce.jobs import Commands
from rf_agent.reproduce.stages import Stage, in_order
from rf_agent.training.run_info import git_revision
from rf_agent.workers import usable_cores

MARK = "stage.json"
OUTPUT = "output.txt"
"""What a command printed that ran beside others."""
HEARING = 1.0
"""Seconds after which a wait begins anew: Ctrl-C in the moment before a wait is heard only when the wait ends."""
RENDERS = ("collect", "collect-vl", "pretrain", "evaluate")
"""Commands that take `--workers` for simulators."""
COMPUTES = ("pretrain", "train", "evaluate", "evaluate-vl")
"""Commands that take `--device`."""


class Pipeline:
    """A folder in which stages are run.

    Args:
        folder: where everything lies; made if it is not there.
        workers: simulator processes of a command; as many as it chooses itself if None.
        device: where networks compute.
        jobs: commands that run at once and share the cores; one that nothing can run beside has them all.
        reporter: hears what begins and ends.

    Raises:
        UserError: `jobs` is below 1.
    """

    def __init__(
        self, folder: Path, workers: int | None = None, device: str = "auto", jobs: int = 1, *, reporter: Reporter
    ) -> None:
        if jobs < 1:
            raise UserError(f"--jobs is {jobs}: give 1 or more")
        self.folder, self.reporter = folder, reporter
        self.workers, self.device, self.jobs = workers, device, jobs
        self._commands = Commands()
        self._is_held = False

    def run(self, stages: Sequence[Stage], after_each: Callable[[], None] = lambda: None) -> None:
        """Run what is not done yet of some stages and of what they need.

        Args:
            stages: those that come first begin first, but what can run beside others does.
            after_each: called when a command has ended well.

        Raises:
            UserError: a command failed, a stage was made by another command, or its result is gone; or others run
                stages of this folder.
        """
        ordered = in_order(tuple(stages))
        for stage in ordered:
            self._check(stage)
        left = [stage for stage in ordered if not self.is_done(stage)]
        self._check_outdated(ordered, left)
        if left:
            with self.held(), sigterm_like_ctrl_c():
                self._run_all(left, after_each)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from running stages in this folder; `run` does so for its own time.

        Raises:
            UserError: others do, or commands that they began.
        """
        if self._is_held:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(folder_lock(self.folder))
            except BlockingIOError as error:
                raise UserError(
                    f"in {self.folder} another process is at work, or a command that one began which was killed: wait "
                    "for it, or end it"
                ) from error
            self._is_held, self._commands.kept = True, () if held is None else (held,)
            try:
                yield
            finally:
                self._is_held, self._commands.kept = False, ()

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage has finished."""
        return bool(self._mark(stage).get("finished"))

    def seconds(self, stage: Stage) -> float:
        """What a stage has taken so far, interrupted starts included; 0 before the first."""
        return float(self._mark(stage).get("seconds", 0.0))

    def revision(self, stage: Stage) -> str | None:
        """The commit or version that a stage was last begun with; None where that was not kept."""
        return self._mark(stage).get("revision")

    def _run_all(self, left: Sequence[Stage], after_each: Callable[[], None]) -> None:
        """Run stages, as many at once as there are jobs, each after what it needs.

        When one fails nothing else begins, but what runs goes on to its end.
        """
        waiting = list(enumerate(left, 1))
        running: dict[Future[float], tuple[str, Stage]] = {}
        failures: list[Exception] = []
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while running or (waiting and not failures):
                    ready = [] if failures else [entry for entry in waiting if self._can_run(entry[1])]
                    jobs = 1 if not running and len(ready) == 1 else self.jobs  # one alone need not share the cores
                    for number, stage in ready[: self.jobs - len(running)]:
                        waiting.remove((number, stage))
                        name = f"[{number}/{len(left)}]"
                        self.reporter.log(f"{name} {stage.command}")
                        running[pool.submit(self._run, stage, jobs)] = name, stage
                    if not running:
                        raise UserError(_gone(waiting[0][1], self.is_done))
                    for ended in wait(running, HEARING, FIRST_COMPLETED).done:
                        name, stage = running.pop(ended)
                        try:
                            seconds = ended.result()
                            self._ended(stage)
                            self.reporter.log(f"{name} {stage.folder}: {duration(seconds)}")
                        except Exception as error:
                            failures.append(error)
                            self.reporter.log(f"{name} {error}" + ("; what else runs goes on" if running else ""))
                        else:
                            after_each()
                        if self.jobs > 1:  # otherwise the command shows its own
                            ended_count = len(left) - len(waiting) - len(running)
                            self.reporter.update(ended_count / len(left), f"{ended_count} of {len(left)} commands")
            except BaseException as error:
                self._commands.end(told=isinstance(error, KeyboardInterrupt) and error.args != (SIGTERM,))
                raise
        if failures:
            raise failures[0] if len(failures) == 1 else UserError("\n".join(map(str, failures)))

    def _can_run(self, stage: Stage) -> bool:
        return all(self.is_done(needed) for needed in stage.needs)

    def _run(self, stage: Stage, jobs: int) -> float:
        """Run one command to its end, as one of so many that share the cores.

        Returns:
            The seconds that it took, those of interrupted ones, too.
        """
        mark = self._mark(stage) or {"command": stage.command, "seconds": 0.0, "finished": False}
        mark["revision"] = git_revision() or importlib.metadata.version("roboflamingo-agent")
        path = self.folder / stage.folder / MARK
        write_json(path, mark)
        output = None if self.jobs == 1 else self.folder / stage.folder / OUTPUT
        before, started = mark["seconds"], time.monotonic()

        def count() -> None:  # also while it runs: a machine that goes down must not make it look cheaper
            mark["seconds"] = round(before + time.monotonic() - started, 1)
            write_json(path, mark)

        try:
            code = self._commands.run(self._arguments(stage, jobs), self.folder, self._environment(jobs), output, count)
        finally:
            count()
        if code:
            why = "see above" if output is None else f"see the end of {output}"
            raise UserError(
                f"{stage.folder} failed, {why}; in {self.folder} it runs as\n{shlex.join(self._words(stage, jobs))}"
            )
        mark["finished"] = True
        write_json(path, mark)
        return mark["seconds"]

    def _ended(self, stage: Stage) -> None:
        """Called after each stage."""

    def _words(self, stage: Stage, jobs: int) -> list[str]:
        words = ["rf-agent", *stage.words, "--output", stage.output]
        workers = _share_of_cores(jobs) if self.workers is None and jobs > 1 else self.workers
        if stage.kind in RENDERS and workers is not None:
            words += ["--workers", str(workers)]
        if stage.kind == "train" and jobs > 1:  # processes that read ahead, beside the one that trains
            words += ["--workers", str(max(0, _share_of_cores(jobs) // 2 - 1))]
        if stage.kind in COMPUTES and self.device != "auto":
            words += ["--device", self.device]
        if stage.kind in RESULTS and (self.folder / stage.folder / CHECKPOINT).exists():
            words.append("--resume")
        return words

    def _environment(self, jobs: int) -> dict[str, str]:
        """That of a command, which finds the same packages from another folder; a user's own variables count more."""
        share = {} if jobs == 1 else {"OMP_NUM_THREADS": str(_share_of_cores(jobs))}
        packages = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
        return share | os.environ | {"PYTHONPATH": packages}

    def _arguments(self, stage: Stage, jobs: int) -> list[str]:
        return [sys.executable, "-m", "rf_agent.cli", *self._words(stage, jobs)[1:]]

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


def _share_of_cores(jobs: int) -> int:
    return max(1, usable_cores() // jobs)


def _gone(stage: Stage, is_done: Callable[[Stage], bool]) -> str:
    """Why a stage cannot run though nothing is left to wait for."""
    missing = ", ".join(needed.folder for needed in stage.needs if not is_done(needed))
    return f"{stage.folder} needs {missing}, which was deleted meanwhile: run the same command again"
