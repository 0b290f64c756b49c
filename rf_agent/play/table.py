"""The process of one table: a session in real time at the end of a pipe.

Through the pipe go bytes only, never pickles: commands as JSON one way; the other way messages whose first byte says
whether JSON or a frame follows. An empty command ends the process; so does the end of the process that started it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rf_agent.workers import end_with_parent

JSON, FRAME = b"J", b"F"
STEP_SECONDS = 1 / 30
LATE = 0.05
"""Seconds behind the clock from which fewer frames are shown, so that the robot keeps its pace."""
GIVE_UP = 0.25
"""Seconds behind the clock from which it waits for the table: a slow machine is slow, not jerky."""
IDLE = 0.25


@dataclass(frozen=True)
class TableSettings:
    """What a table is made of."""

    env: str = "rf/PlayTableD-v0"
    env_options: dict[str, Any] = field(default_factory=dict)
    policy: str = "roboflamingo-tiny"
    device: str = "cpu"
    recordings: Path = Path("recordings")
    name: str = "play"
    modules: tuple[str, ...] = ()
    """To import first: they register environments."""


class PipeClosed(Exception):
    """The other end of the pipe has gone."""


def run_table(connection: Connection, settings: TableSettings) -> None:
    """Serve a table until it is told to end. The target of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the process that started it
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # tables share the cores
    end_with_parent()
    with contextlib.suppress(PipeClosed):
        try:
            _serve(connection, settings)
        except PipeClosed:
            raise
        except Exception as error:
            _send(connection, {"type": "fatal", "text": " ".join(str(error).split()) or type(error).__name__})
    os._exit(0)  # nothing is left to do, and taking down torch takes its time


def _serve(connection: Connection, settings: TableSettings) -> None:
    session = _open(settings)
    try:
        _send(connection, session.hello())
        loop = Loop(connection, session)
        loop.send_views()
        session.warm_up()  # after the first frame, which need not wait for a policy
        loop.tell()
        loop.run()
    finally:
        with contextlib.suppress(Exception):  # the reason for the end is what counts
            session.close()


class Loop:
    """Steps a session at 30 Hz times its speed, and carries messages."""

    def __init__(self, connection: Connection, session: Any) -> None:
        self._connection, self._session = connection, session
        self._stepped: deque[float] = deque(maxlen=30)
        self._sent: dict[str, Any] = {}

    def run(self) -> None:
        """Until an empty command, or the end of the pipe."""
        session, due = self._session, None
        while True:
            moves = session.wants_step()
            now = time.monotonic()
            due = (now if due is None else due) if moves else None
            if not self._commands(IDLE / 5 if due is None else max(0.0, due - now)):
                return
            now = time.monotonic()
            shows = False
            if due is not None and now >= due and session.wants_step():
                shows = self._step(now - due > LATE)
                due = max(due + STEP_SECONDS / session.factor, now - GIVE_UP)
            elif due is None and session.cache.unseen:
                shows = True
            if shows:
                self.send_views()
            self.tell()

    def send_views(self) -> None:
        """Send a frame of the present state."""
        from rf_agent.play.frames import encode

        try:
            frame = encode(self._session.shown()[:2])
        except Exception as error:  # of a simulator: the table stays
            self._session.problem(error)
            return
        _send_bytes(self._connection, FRAME + frame)

    def tell(self) -> None:
        """Send what is new."""
        for message in self._session.outbox:
            _send(self._connection, message)
        self._session.outbox.clear()
        state = self._session.state()
        if state != self._sent:
            self._sent = state
            _send(self._connection, state | {"rate": self._rate()})
        for message in self._session.outbox:  # a state may find that a policy cannot be loaded
            _send(self._connection, message)
        self._session.outbox.clear()

    def _commands(self, timeout: float) -> bool:
        """Do what was asked within the time; False at the end."""
        while True:
            with _pipe_errors():
                data = self._connection.recv_bytes() if self._connection.poll(timeout) else None
            if data is None:
                return True
            if not data:
                return False
            try:
                self._session.handle(json.loads(data))
            except Exception as error:
                self._session.problem(error)
            timeout = 0.0

    def _step(self, late: bool) -> bool:
        self._stepped.append(time.monotonic())
        try:
            return self._session.step(late)
        except Exception as error:  # of a policy or of a full disk: the table stays, to be asked something else
            self._session.problem(error)
            self._session.handle({"do": "stop"})
            return True

    def _rate(self) -> float:
        """Steps a second, over the last thirty."""
        if len(self._stepped) < 2 or time.monotonic() - self._stepped[-1] > 1:
            return 0.0
        return round((len(self._stepped) - 1) / max(1e-3, self._stepped[-1] - self._stepped[0]), 1)


def _open(settings: TableSettings) -> Any:
    import importlib

    from rf_agent.environments import Environments, is_ours, with_scene
    from rf_agent.evaluation.agents import NEVER
    from rf_agent.play.recorder import Recorder
    from rf_agent.play.session import Session

    for module in settings.modules:
        importlib.import_module(module)

    def make_env(scene: str | None) -> Any:
        # the session draws what it shows, and minds the time
        ours = {"render_every": NEVER, "max_steps": NEVER} if is_ours(settings.env) else {}
        options = ours | settings.env_options | ({} if scene is None else {"scene": scene})
        # recordings name the environment: that of the scene, if there is one
        env_id = with_scene(settings.env, options["scene"]) if "scene" in options else settings.env
        return Environments().get(env_id, **options)

    return Session(make_env, settings.policy, Recorder(settings.recordings, settings.name), settings.device)


@contextlib.contextmanager
def _pipe_errors() -> Iterator[None]:
    """Tells errors of the pipe from those of files, which are OSErrors, too."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise PipeClosed from error


def _send(connection: Connection, message: dict[str, Any]) -> None:
    _send_bytes(connection, JSON + json.dumps(message).encode())


def _send_bytes(connection: Connection, data: bytes) -> None:
    with _pipe_errors():
        connection.send_bytes(data)


start_method = functools.partial(multiprocessing.get_context, "spawn")
"""A forked child would inherit the threads of the web server."""
