"""A pool of worker processes that answer jobs. They end with the process that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Any, Generic, TypeVar

from rf_agent import watchdog

Job = TypeVar("Job")
Result = TypeVar("Result")
Owned = TypeVar("Owned")

HUNG = 2
"""How many deaths of its worker a job that hung counts for: it costs more time than one whose worker died."""

# What this worker process owns. A pool calls plain functions, so it has no other place; the parent never sets it.
_owned: Any = None


def usable_cores() -> int:
    """CPU cores that this process may use: Slurm, taskset and the like grant it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    work: Callable[[Owned, Job], Result],
    jobs: Iterable[Job],
    workers: int,
    make: Callable[[], AbstractContextManager[Owned]],
    *,
    restarts: int = 0,
    timeout: float | None = None,
    on_restart: Callable[[str], None] | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, work(owned, job))` as they finish, in any order.

    Args:
        work: a module-level function (it is sent to other processes by name).
        jobs: taken lazily, at most two per worker in flight, so that results cannot pile up in memory.
        workers: 1 runs everything in this process, unless there are `restarts` or a `timeout`.
        make: opens what the work needs, such as `Environments`. Every worker owns one, and closes it at its end.
        restarts: how many times a job is done again because a worker died. One death may cost several jobs, as all
            workers are started anew.
        timeout: seconds between two calls of `rf_agent.watchdog.alive` in the work, after which its worker is ended.
        on_restart: hears, in a sentence, why workers are started anew.

    Raises:
        RuntimeError: when a worker process dies once more than that; what was yielded before stays valid. An error of
            `work` is raised after the jobs under way have been yielded. If the caller stops before the end (Ctrl-C, an
            error of its own), the workers are ended at once, with what they were doing.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    if workers == 1 and not restarts and timeout is None:
        with make() as owned:
            for job in jobs:
                yield job, work(owned, job)
        return
    # All temporary files of the workers lie in one folder, so that any survivor can remove it.
    with tempfile.TemporaryDirectory(prefix="rf_agent_", ignore_cleanup_errors=True) as scratch:
        start = (make, Path(scratch), timeout)
        queue = _Queue(jobs)
        while True:
            try:
                yield from _run_in_pool(work, queue, workers, start)
                return
            except BrokenProcessPool as error:
                reason = queue.put_back(watchdog.hung(Path(scratch)), restarts)
                if reason is not None:
                    raise RuntimeError(reason) from error
                if on_restart:
                    on_restart(queue.why)


class _Queue(Generic[Job]):
    """Jobs that are still to be done, those under way, and how often each was lost with its worker."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = enumerate(jobs)
        self._again: deque[tuple[int, Job]] = deque()
        self._deaths: Counter[int] = Counter()
        self.under_way: dict[int, Job] = {}
        self.why = ""

    def take(self) -> tuple[int, Job] | None:
        """The next job and its number, if there is any."""
        found = self._again.popleft() if self._again else next(self._jobs, None)
        if found is not None:
            self.under_way[found[0]] = found[1]
        return found

    def put_back(self, hung: dict[int, str], restarts: int) -> str | None:
        """What was under way is to be done again. Returns why not, if something was lost too often.

        Args:
            hung: of the jobs whose worker was ended by the watchdog, what it says of them.
            restarts: how often a job may be lost.
        """
        again = sorted(self.under_way.items())
        self.under_way.clear()
        self.why = "; ".join(hung.values()) or "a worker process died (out of memory, or killed)"
        for number, job in again:
            # Without a word of the watchdog nobody knows whose worker it was.
            self._deaths[number] += HUNG if number in hung else 1 if not hung else 0
            self._again.append((number, job))
        if all(self._deaths[number] <= restarts for number, _ in again):
            return None
        return f"{self.why}: start the same command again, " + (
            "with a longer --timeout if it only was slow" if hung else "with fewer --workers if memory was short"
        )


def _run_in_pool(
    work: Callable[[Owned, Job], Result], queue: _Queue[Job], workers: int, start: tuple[Any, ...]
) -> Iterator[tuple[Job, Result]]:
    """Until the queue is empty. A worker's death raises BrokenProcessPool, with the lost jobs in `queue.under_way`."""
    # "spawn": a forked child would inherit torch's threads and the simulator's state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=start)
    pending: dict[Future[Result], int] = {}
    failures: list[BaseException] = []
    broken: BrokenProcessPool | None = None
    try:
        while True:
            while not failures and broken is None and len(pending) < 2 * workers:
                taken = queue.take()
                if taken is None:
                    break
                number, job = taken
                pending[pool.submit(_work, number, work, job)] = number
            if not pending:
                break
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                number = pending.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = error  # all that is under way is lost
                    continue
                job = queue.under_way.pop(number)
                if error:
                    failures.append(error)  # what is under way is finished and kept before it is raised
                else:
                    yield job, future.result()
        if failures:
            raise failures[0]
        if broken is not None:
            raise broken
    finally:
        if pending:  # interrupted: nobody reads what is under way, and what waits in line cannot be cancelled
            for process in list((pool._processes or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _work(number: int, work: Callable[[Any, Any], Any], job: Any) -> Any:
    with watchdog.watching(number):
        try:
            return work(_owned, job)
        except Exception as error:
            try:  # one that cannot be read back would break the pool, as if this process had died
                pickle.loads(pickle.dumps(error))
            except Exception:
                raise RuntimeError(f"{type(error).__name__}: {error}") from None
            raise


def _start_worker(make: Callable[[], AbstractContextManager[Any]], scratch: Path, timeout: float | None) -> None:
    global _owned
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it stops the pool
    # The parallelism is in the processes. Set here because torch, which is slow to import, may not be needed.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if "torch" in sys.modules:  # imported by the script that started this, which "spawn" reads first
        sys.modules["torch"].set_num_threads(1)
    # kept from run to run, so not among the files that go with the worker
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), "torchinductor_rf_agent"))
    tempfile.tempdir = str(scratch)
    for name in ("TMPDIR", "TEMP", "TMP"):  # programs that a worker starts, such as ffmpeg
        os.environ[name] = str(scratch)
    watchdog.start(scratch, timeout)
    end_with_parent(lambda: _remove(scratch))
    stack = contextlib.ExitStack()
    _owned = stack.enter_context(make())
    # Unlike atexit this also runs at the end of a worker, and before what the simulators themselves registered.
    multiprocessing.util.Finalize(None, stack.close, exitpriority=10)


def _remove(scratch: Path) -> None:
    for _ in range(50):  # the other threads go on and may still write into the folder that is being removed
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            break
        time.sleep(0.02)


def end_with_parent(clean: Callable[[], None] = lambda: None) -> None:
    """Have this process end as soon as the one that started it is gone, however that ended.

    Args:
        clean: called before, to leave nothing behind.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_parent() -> None:
        wait_for_end([parent.sentinel])
        clean()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
