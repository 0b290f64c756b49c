"""The process of one table: a session in real time at the end of a pipe.

Through the pipe go bytes only, never pickles: commands as JSON one way; the other way messages whose first byte says
whether JSON or a frame follows. An empty command ends the process; so does the end of the process that started it.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

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


def run_table(connection: Connection, settings: TableSettings) -> None:
    """Serve a table until it is told to end. The target of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the process that started it
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # tables share the cores
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        session = _open(settings)
    except Exception as error:
        _send(connection, {"type": "fatal", "text": " ".join(str(error).split())})
        return
    _send(connection, session.hello())
    loop = Loop(connection, session)
    loop.send_views()
    session.warm_up()  # after the first frame, which need not wait for a policy
    try:
        loop.tell()
        loop.run()
    except (EOFError, OSError):  # the other end has gone
        pass
    finally:
        session.close()
    os._exit(0)  # nothing is left to do, and taking down torch takes its time


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
            elif due is None and session.sight.unseen:
                shows = True
            if shows:
                self.send_views()
            self.tell()

    def send_views(self) -> None:
        """Send a frame of the present state."""
        from rf_agent.play.frames import encode

        self._connection.send_bytes(FRAME + encode(self._session.shown()[:2]))

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
        while self._connection.poll(timeout):
            data = self._connection.recv_bytes()
            if not data:
                return False
            try:
                self._session.handle(json.loads(data))
            except Exception as error:
                self._session.problem(error)
            timeout = 0.0
        return True

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

    from rf_agent.environments import Environments, is_ours
    from rf_agent.evaluation.agents import NEVER
    from rf_agent.play.keeping import Keeping
    from rf_agent.play.session import Session

    for module in settings.modules:
        importlib.import_module(module)

    def make_env(scene: str | None) -> Any:
        # the session draws what it shows, and minds the time
        ours = {"render_every": NEVER, "max_steps": NEVER} if is_ours(settings.env) else {}
        chosen = {} if scene is None else {"scene": scene}
        return Environments().get(settings.env, **ours | settings.env_options | chosen)

    return Session(make_env, settings.policy, Keeping(settings.recordings, settings.name), settings.device)


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(JSON + json.dumps(message).encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


start_method = functools.partial(multiprocessing.get_context, "spawn")
"""A forked child would inherit the threads of the web server."""
