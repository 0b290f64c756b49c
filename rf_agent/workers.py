"""A pool of worker processes that answer jobs. Each worker owns resources that it keeps between jobs."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Resource = TypeVar("Resource")

_POLL = 1.0  # seconds after which a worker that waits for its parent's end looks for it by number too


class _Worker:
    """What a worker process owns. The pool's protocol leaves no other place for it than the process itself."""

    resource: Any = None
    stack = ExitStack()


def run_jobs(
    work: Callable[[Resource, Job], Result],
    jobs: Iterable[Job],
    workers: int,
    resource: Callable[[], AbstractContextManager[Resource]],
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, work(owned, job))` as they finish, in any order.

    Workers end when this process does, also when it is killed, and close what they own.

    Args:
        work: a module-level function (it is sent to other processes by name).
        jobs: taken lazily, at most two per worker in flight, so that results cannot pile up in memory.
        workers: 1 runs everything in this process.
        resource: makes what each worker owns, such as `rf_agent.environments.Environments`: a module-level class or
            function without arguments.

    Raises:
        RuntimeError: when a worker process dies; what was yielded before stays valid. An error of `work` is raised
            after the jobs under way have been yielded.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    if workers == 1:
        with resource() as owned:
            for job in jobs:
                yield job, work(owned, job)
        return
    # "spawn": a forked child would inherit torch's threads and the simulator's state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(resource, os.getpid()))
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
    return work(_Worker.resource, job)


def _start(resource: Callable[[], AbstractContextManager[Any]], parent: int) -> None:
    """In a new worker process: take ownership, and watch the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it stops the pool
    # The parallelism is in the processes. Set here because torch, which is slow to import, may not be needed.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    _Worker.resource = _Worker.stack.enter_context(resource())
    multiprocessing.util.Finalize(None, _Worker.stack.close, exitpriority=10)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this process when its parent has ended, which a worker that waits for jobs would never notice."""
    process = multiprocessing.parent_process()
    assert process is not None
    # The sentinel is inherited by every later worker, so it alone would not tell of the parent's end.
    while not wait_for([process.sentinel], timeout=_POLL) and os.getppid() == parent:
        pass
    try:
        _Worker.stack.close()  # temporary files of simulators; the main thread may be inside one of them
    finally:
        os._exit(1)
