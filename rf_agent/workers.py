"""A pool of worker processes that answer jobs. They end with the process that started them, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.util
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Owned = TypeVar("Owned")

# What this worker process owns. A pool calls plain functions, so it has no other place; the parent never sets it.
_owned: Any = None


def run_jobs(
    work: Callable[[Owned, Job], Result],
    jobs: Iterable[Job],
    workers: int,
    make: Callable[[], AbstractContextManager[Owned]],
    leftovers: Sequence[Path] = (),
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, work(owned, job))` as they finish, in any order.

    Args:
        work: a module-level function (it is sent to other processes by name).
        jobs: taken lazily, at most two per worker in flight, so that results cannot pile up in memory.
        workers: 1 runs everything in this process.
        make: opens what the work needs, such as `Environments`. Every worker owns one, and closes it at its end.
        leftovers: folders of this process that the workers remove if it is killed.

    Raises:
        RuntimeError: when a worker process dies; what was yielded before stays valid. An error of `work` is raised
            after the jobs under way have been yielded.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    if workers == 1:
        with make() as owned:
            for job in jobs:
                yield job, work(owned, job)
        return
    # All temporary files of the workers lie in one folder, so that any survivor can remove it.
    with tempfile.TemporaryDirectory(prefix="rf_agent_", ignore_cleanup_errors=True) as scratch:
        yield from _run_in_pool(work, jobs, workers, (make, Path(scratch), tuple(leftovers)))


def _run_in_pool(
    work: Callable[[Owned, Job], Result], jobs: Iterable[Job], workers: int, start: tuple[Any, ...]
) -> Iterator[tuple[Job, Result]]:
    # "spawn": a forked child would inherit torch's threads and the simulator's state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=start)
    pending: dict[Future[Result], Job] = {}
    failures: list[BaseException] = []
    remaining = iter(jobs)
    try:
        while True:
            if not failures:
                for job in itertools.islice(remaining, 2 * workers - len(pending)):
                    pending[pool.submit(_work, work, job)] = job
            if not pending:
                break
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                job = pending.pop(future)
                if error := future.exception():
                    failures.append(error)  # what is under way is finished and kept before it is raised
                else:
                    yield job, future.result()
        if failures:
            raise failures[0]
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died (out of memory, or killed): start the same command again to go on, "
            "with fewer --workers if memory was short"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _work(work: Callable[[Any, Job], Result], job: Job) -> Result:
    return work(_owned, job)


def _start_worker(make: Callable[[], AbstractContextManager[Any]], scratch: Path, leftovers: Sequence[Path]) -> None:
    global _owned
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it stops the pool
    # The parallelism is in the processes. Set here because torch, which is slow to import, may not be needed.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    # kept from run to run, so not among the files that go with the worker
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), "torchinductor_rf_agent"))
    tempfile.tempdir = str(scratch)
    for name in ("TMPDIR", "TEMP", "TMP"):  # programs that a worker starts, such as ffmpeg
        os.environ[name] = str(scratch)
    threading.Thread(target=_end_with_parent, args=((scratch, *leftovers),), daemon=True).start()
    stack = contextlib.ExitStack()
    _owned = stack.enter_context(make())
    # Unlike atexit this also runs at the end of a worker, and before what the simulators themselves registered.
    multiprocessing.util.Finalize(None, stack.close, exitpriority=10)


def _end_with_parent(folders: Sequence[Path]) -> None:
    """Wait until the parent is gone, which may be never; then leave nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    for _ in range(50):  # the other threads go on and may still write into a folder that is being removed
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.exists() for folder in folders):
            break
        time.sleep(0.02)
    os._exit(1)
