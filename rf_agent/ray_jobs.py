"""Jobs as tasks of a Ray cluster: Ray decides where they run, and repeats those whose worker died."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from rf_agent import watchdog
from rf_agent.errors import require

Job = TypeVar("Job")
Result = TypeVar("Result")
Owned = TypeVar("Owned")

# What this Ray worker owns: made for its first job and kept for the next ones.
_owned: dict[Callable[[], AbstractContextManager[Any]], Any] = {}


def run_jobs_on_ray(
    work: Callable[[Owned, Job], Result],
    jobs: Iterable[Job],
    make: Callable[[], AbstractContextManager[Owned]],
    restarts: int = 0,
    timeout: float | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, work(owned, job))` as they finish, in any order; as `rf_agent.workers.run_jobs`, on a cluster.

    The cluster is that of `ray.init` in this process, else that of the environment variable RAY_ADDRESS, else one that
    is started on this machine. Each job takes one CPU. Files that jobs name must be where every machine finds them.

    Args:
        work: a module-level function.
        jobs: taken lazily, at most two per CPU in flight.
        make: opens what the work needs. Every Ray worker owns one for its jobs.
        restarts: how many times Ray does a job again whose worker died.
        timeout: seconds between two calls of `rf_agent.watchdog.alive` in the work, after which its worker is ended.

    Raises:
        MissingPackageError: Ray is not installed.
        RuntimeError: a worker died once more than that; what was yielded before stays valid.
    """
    ray = require("ray", "--engine ray", "'.[ray]'")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    remote = ray.remote(num_cpus=1, max_retries=restarts)(_work)
    pending: dict[Any, Job] = {}
    remaining = iter(jobs)
    try:
        while True:
            limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # a cluster grows and shrinks
            for job in itertools.islice(remaining, max(0, limit - len(pending))):
                pending[remote.remote(list(sys.path), make, timeout, work, job)] = job
            if not pending:
                return
            for reference in ray.wait(list(pending), num_returns=1)[0]:
                job = pending.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from None
                except ray.exceptions.RayError as error:
                    again = "start the same command again to go on"
                    raise RuntimeError(f"Ray could not finish {job}: {_first_line(error)}: {again}") from error
                yield job, result
    finally:
        for reference in pending:
            with contextlib.suppress(Exception):  # it may have ended by now
                ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _work(
    path: list[str],
    make: Callable[[], AbstractContextManager[Any]],
    timeout: float | None,
    work: Callable[[Any, Any], Any],
    job: Any,
) -> Any:
    """Runs in a Ray worker, which is used again for other jobs."""
    sys.path += [entry for entry in path if entry not in sys.path]  # modules of environments and policies
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # sums over several threads round differently
    if make not in _owned:
        stack = contextlib.ExitStack()
        atexit.register(stack.close)
        _owned[make] = stack.enter_context(make())
    # a worker may have done jobs with another time-out, or none
    with tempfile.TemporaryDirectory(prefix="rf_agent_") as folder:
        watchdog.start(Path(folder), timeout)
        with watchdog.watching(0):
            return work(_owned[make], job)


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
