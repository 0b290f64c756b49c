"""One policy, on a GPU say, for environments in many processes: those that wait are answered as one batch."""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from rf_agent.evaluation.agents import Observation

State = tuple[np.ndarray, ...]


class Address(NamedTuple):
    """Where a server listens (on this machine only) and the key that it asks for."""

    address: Any
    key: bytes
    render_every: int
    folder: Path | None = None
    """Holds the socket, where sockets are files. The server removes it at its end."""


class RemoteAgent:
    """Asks a `PolicyServer`. The server holds the episode's history, by connection."""

    def __init__(self, server: Address) -> None:
        self.render_every = server.render_every
        self._connection = Client(server.address, authkey=server.key)
        self._start = True

    def reset(self, env: Any, seed: int) -> None:
        self._start = True

    def act(self, observation: Observation) -> np.ndarray:
        self._connection.send((self._start, observation))
        self._start = False
        answer = self._connection.recv()
        if isinstance(answer, RuntimeError):
            raise answer
        return answer


class PolicyServer:
    """Answers `RemoteAgent`s from threads of this process while its context is open.

    Args:
        policy: has `predict(observation, state, episode_start)`, its state's arrays one row per environment.

    Example:
        >>> with PolicyServer(policy) as address:
        ...     agent = RemoteAgent(address)  # in any process of this machine
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._states: dict[Connection, State] = {}
        self._connections: list[Connection] = []
        self._closing = threading.Event()

    def __enter__(self) -> Address:
        key = secrets.token_bytes(32)
        self._folder, address = None, None
        if sys.platform != "win32":  # a folder of its own, so that others can remove it if this process is killed
            self._folder = tempfile.TemporaryDirectory(prefix="rf_agent_", ignore_cleanup_errors=True)
            address = str(Path(self._folder.name) / "socket")
        self._listener = Listener(address, authkey=key)
        for work in (self._accept, self._serve):
            threading.Thread(target=work, daemon=True).start()
        folder = Path(self._folder.name) if self._folder else None
        return Address(self._listener.address, key, self._policy.config.head.replan_every, folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._listener.close()
        if self._folder:
            self._folder.cleanup()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                self._connections.append(self._listener.accept())
            except (OSError, EOFError, AuthenticationError):  # closed, or a client that was no client
                continue

    def _serve(self) -> None:
        while not self._closing.is_set():
            requests: list[tuple[Connection, bool, Observation]] = []
            # The time-out lets new connections in; requests themselves wake us at once.
            for connection in wait(list(self._connections), timeout=0.02):
                assert isinstance(connection, Connection)
                try:
                    requests.append((connection, *connection.recv()))
                except (EOFError, OSError):
                    self._connections.remove(connection)
                    self._states.pop(connection, None)
            if requests:
                self._answer(requests)

    def _answer(self, requests: list[tuple[Connection, bool, Observation]]) -> None:
        """Answer in two batches: environments that are known have a state, new ones have none."""
        known = [request for request in requests if request[0] in self._states]
        new = [request for request in requests if request[0] not in self._states]
        for batch in filter(None, (known, new)):
            connections, starts, observations = zip(*batch, strict=True)
            try:
                stacked = {key: np.stack([o[key] for o in observations]) for key in observations[0]}
                state = None
                if batch is known:
                    rows = [self._states[connection] for connection in connections]
                    state = tuple(np.concatenate(arrays) for arrays in zip(*rows, strict=True))
                actions, state = self._policy.predict(stacked, state, np.array(starts))
                answers: list[Any] = list(actions)
                for row, connection in enumerate(connections):
                    self._states[connection] = tuple(array[row : row + 1] for array in state)
            except Exception as error:  # it belongs to those who asked; only its text is sure to survive the journey
                answers = [RuntimeError(str(error))] * len(batch)
            for connection, answer in zip(connections, answers, strict=True):
                with contextlib.suppress(OSError):  # one who has died waits for nothing; the others do
                    connection.send(answer)
