"""One thread owns the policy: the requests of all connections that wait are answered as one batch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

log = logging.getLogger(__name__)

State = tuple[np.ndarray, ...]

FAILURES = 10
"""Answers in a row that the policy failed at, after which it counts as broken: a GPU that has failed once fails for
ever."""


class NotFinite(ValueError):
    """Actions of a policy that are no numbers. Other errors of this kind are about what it was sent."""


class Answer(NamedTuple):
    """What the policy says to one observation."""

    actions: np.ndarray
    """(K, D) float32, in the environment's units."""
    state: State
    """History of the environment, one row: to be handed back with its next observation."""
    seconds: float
    """Time that the policy took for the batch."""
    batch: int
    """Observations in it."""


@dataclass
class _Request:
    observation: dict[str, Any]
    state: State | None
    start: bool
    future: asyncio.Future[Answer]

    @property
    def shapes(self) -> tuple[Any, ...]:
        """Observations stack where these are alike: two robots may have cameras of different sizes."""
        return tuple(np.shape(value) for value in self.observation.values())


class Batcher:
    """Computes in a thread of its own while its context is open.

    It holds no history: that is a value of the connection, handed in and out.

    Args:
        policy: has `predict_steps(observation, state, episode_start)`, its state's arrays one row per environment.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rf_agent.serving.batcher", daemon=True)
        self._blank: State | None = None
        self._failures = 0
        self.error: BaseException | None = None
        """What ended the thread by itself. No error of the policy does, but it may ask Python to exit."""

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""
        return self.error is None and self._thread.is_alive()

    @property
    def trouble(self) -> str:
        """Why no observation is answered; empty while some are."""
        if not self.alive:
            return "the policy has ended"
        return f"the policy failed {FAILURES} times in a row" if self._failures >= FAILURES else ""

    def __enter__(self) -> Batcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._thread.join()

    def submit(self, observation: dict[str, Any], state: State | None, start: bool) -> asyncio.Future[Answer]:
        """Have an observation answered; what goes wrong with it is raised by the future. To be called in the loop."""
        request = _Request(observation, state, start, asyncio.get_running_loop().create_future())
        self._requests.put(request)
        if self.error is not None:
            self._refuse(self._waiting())
        return request.future

    def _run(self) -> None:
        wanted: list[_Request] = []
        ended = False
        try:
            while not ended:
                waiting = [self._requests.get(), *self._waiting()]
                ended = None in waiting
                wanted = [request for request in waiting if request is not None and not request.future.cancelled()]
                for batch in _alike(wanted):
                    self._answer(batch)
        except BaseException as error:
            log.error("the policy ended its thread", exc_info=True)
            self.error = error  # before the queue is emptied: who comes later sees it
            self._refuse([*wanted, *self._waiting()])

    def _waiting(self) -> list[_Request | None]:
        found = []
        while True:
            try:
                found.append(self._requests.get_nowait())
            except queue.Empty:
                return found

    def _refuse(self, requests: Sequence[_Request | None]) -> None:
        reason = RuntimeError(
            f"the policy has ended ({type(self.error).__name__}: {self.error}); start the server anew"
        )
        for request in requests:
            if request is not None:
                _deliver([request], reason)

    def _answer(self, batch: Sequence[_Request]) -> None:
        try:
            answers = self._compute(batch)
        except Exception as error:
            if len(batch) > 1:  # the error belongs to one of them; the others are answered
                for request in batch:
                    self._answer([request])
                return
            log.debug("the policy failed", exc_info=True)
            self._failures += isinstance(error, NotFinite) or not isinstance(error, ValueError)
            # a future takes no StopIteration, and would wait for ever
            _deliver(batch, RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
            return
        self._failures = 0
        _deliver(batch, answers)

    def _compute(self, batch: Sequence[_Request]) -> list[Answer]:
        begun = time.perf_counter()
        observation: dict[str, Any] = {
            key: np.stack([request.observation[key] for request in batch]) for key in batch[0].observation
        }
        starts = np.array([request.start or request.state is None for request in batch])
        state = None
        if self._blank is not None:
            # Any history that begins anew is an empty one, so that new environments share a batch with known ones.
            rows = [self._blank if request.state is None else request.state for request in batch]
            state = tuple(np.concatenate(arrays) for arrays in zip(*rows, strict=True))
        elif any(request.state is not None for request in batch):
            raise RuntimeError("a history was given that is of no answer of this policy")
        actions, state = self._policy.predict_steps(observation, state, starts)
        if not np.isfinite(actions).all():
            raise NotFinite("the policy gave actions that are not finite; look at its weights and the observation")
        taken = time.perf_counter() - begun
        states = [tuple(array[row : row + 1].copy() for array in state) for row in range(len(batch))]
        if self._blank is None:
            self._blank = states[0]
        return [Answer(np.array(actions[row], np.float32), states[row], taken, len(batch)) for row in range(len(batch))]


def _deliver(requests: Sequence[_Request], outcome: Sequence[Answer] | Exception) -> None:
    """Hand answers over to the event loop, all at once: every wake-up costs."""

    def resolve() -> None:
        for index, request in enumerate(requests):
            if request.future.done():  # the client has gone, or it was answered before the policy ended
                continue
            if isinstance(outcome, Exception):
                request.future.set_exception(outcome)
            else:
                request.future.set_result(outcome[index])

    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it those who asked
        requests[0].future.get_loop().call_soon_threadsafe(resolve)


def _alike(requests: Sequence[_Request]) -> Iterator[list[_Request]]:
    """The requests in groups that stack."""
    groups: dict[tuple[Any, ...], list[_Request]] = {}
    for request in requests:
        groups.setdefault(request.shapes, []).append(request)
    yield from groups.values()
