"""Worker processes that each hold one environment and answer jobs; only the parent writes files."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# One environment per process, kept between jobs: (environment id, keyword arguments) -> environment.
_environments: dict[str, Any] = {}


def environment(env_id: str, **kwargs: Any) -> Any:
    """This process's environment of that kind, made on first use.

    Args:
        env_id: a Gymnasium id; `rf/...` finds rf_envs by itself, others may name their module as `module:id`.

    Raises:
        ImportError: where Gymnasium, the package of the environments or their simulator is not installed.
        ValueError: for an unknown id, or one that does not take these arguments.
    """
    key = f"{env_id} {sorted(kwargs.items())}"
    if key not in _environments:
        try:
            import gymnasium

            name = f"rf_envs:{env_id}" if env_id.startswith("rf/") else env_id
            _environments[key] = gymnasium.make(name, disable_env_checker=True, **kwargs)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the environment {env_id!r} needs a package that is not installed ({error}): "
                "install this project with its environments, `pip install -e .`"
            ) from error
        except gymnasium.error.Error as error:
            known = ", ".join(name for name in gymnasium.registry if name.startswith("rf/")) or "rf/PlayTableD-v0"
            text = str(error).rstrip(".?")
            raise ValueError(f"cannot make the environment {env_id!r}: {text}; this project's are {known}") from error
        except TypeError as error:
            reason = str(error).partition(" was raised from ")[0]
            given = ", ".join(kwargs)
            raise ValueError(f"the environment {env_id!r} cannot be made with {given}: {reason}") from error
    return _environments[key]


def close_environments() -> None:
    """Close what `environment` made in this process."""
    while _environments:
        _environments.popitem()[1].close()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it stops the pool
    # The parallelism is in the processes. Set here because torch, which is slow to import, may not be needed.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"


def run_jobs(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, work(job))` as they finish, in any order.

    Args:
        work: a module-level function (it is sent to other processes by name).
        jobs: taken lazily, at most two per worker in flight, so that results cannot pile up in memory.
        workers: 1 runs everything in this process.

    Raises:
        RuntimeError: when a worker process dies; what was yielded before stays valid. An error of `work` is raised
            after the jobs under way have been yielded.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    if workers == 1:
        try:
            for job in jobs:
                yield job, work(job)
        finally:
            close_environments()
        return
    # "spawn": a forked child would inherit torch's threads and the simulator's state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    pending: dict[Future[Result], Job] = {}
    failures: list[BaseException] = []
    remaining = iter(jobs)
    try:
        while True:
            if not failures:
                for job in itertools.islice(remaining, 2 * workers - len(pending)):
                    pending[pool.submit(work, job)] = job
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
