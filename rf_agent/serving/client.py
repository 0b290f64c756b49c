"""Our side of the connection: a policy on another machine, as an agent. It needs websockets, msgpack and NumPy."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from rf_agent.errors import UserError
from rf_agent.instructions import instructions
from rf_agent.serving.codec import CodecError, pack, unpack
from rf_agent.serving.observations import PROTOCOL

MAX_ANSWER_BYTES = 64 << 20
PINGS = "ping_interval" in inspect.signature(ClientConnection).parameters


class RemoteError(UserError, RuntimeError):
    """The server could not be reached, refused what it was sent, or went away; the message says which."""


class RemotePolicy:
    """A policy that `rf-agent serve` runs: it acts as the policy in this process would.

    Images travel at observation steps only. Between them the actions of the last answer are carried out. A connection
    is one environment; after an error the next `act` connects anew, and history restarts.

    Args:
        url: `ws://HOST:PORT`, or `wss://...` behind a proxy that adds TLS.
        api_key: the server's key, if it asks for one.
        timeout: seconds until the server must have answered, or None to wait for ever; the first answer of a compiled
            policy takes minutes.
        ping_seconds: between the pings that find out whether the server is still there, and until one must be
            answered; None sends none.

    Raises:
        RemoteError: there is no server, or it does not let this client in.

    Examples:
        >>> policy = RemotePolicy("ws://192.168.0.7:8000")
        >>> action = policy.act({"rgb_static": image, "rgb_gripper": other, "instruction": "open the drawer"})
    """

    def __init__(
        self, url: str, api_key: str | None = None, timeout: float | None = 600, ping_seconds: float | None = 20
    ) -> None:
        self.url = url if "://" in url else f"ws://{url}"
        self._key, self._timeout = api_key, timeout
        self._open_timeout = None if timeout is None else min(timeout, 20)
        # before websockets 15 the client sends none
        self._pings: dict[str, Any] = {"ping_interval": ping_seconds, "ping_timeout": ping_seconds} if PINGS else {}
        self._queue: deque[np.ndarray] = deque()
        self._text: str | None = None
        self._start = True
        self._connection: ClientConnection | None = None
        self.metadata: dict[str, Any] = self._connect()
        """What the server says of its policy: cameras, action dimension, chunk size, ..."""

    @property
    def render_every(self) -> int:
        """Steps from one observation step to the next; images in between are not read."""
        return int(self.metadata["n_action_steps"])

    def reset(self) -> None:
        """A new episode begins: forget history and the actions to come."""
        self._start = True

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The action (D,) float32 for one observation, as `RoboFlamingoPolicy.act`.

        Raises:
            ValueError: the observation is no dictionary, or holds nothing that the policy reads; or its instruction is
                none.
            RemoteError: the server refused the observation, or cannot be reached.
        """
        if not isinstance(observation, Mapping):
            raise ValueError(
                f"the observation is of type {type(observation).__name__}; give a dictionary (env.reset() returns it "
                "and info: give the first of them)."
            )
        text = instructions(observation["instruction"], 1)[0] if "instruction" in observation else None
        if self._start or text != self._text or not self._queue:
            self._queue = self._ask(observation, text)
            self._start, self._text = False, text
        return self._queue.popleft()

    def close(self) -> None:
        """End the connection; another `act` would connect anew, and begin anew."""
        self._queue.clear()
        self._start = True
        if self._connection is not None:
            self._forgotten.detach()
            self._connection.close()
            self._connection = None

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, observation: Mapping[str, Any], text: str | None) -> deque[np.ndarray]:
        if self._connection is None:  # perhaps to another policy, which reads other things
            self.metadata = self._connect()
        state = self.metadata["state"]
        wanted = [*self.metadata["cameras"], *([state["key"]] if state else [])]
        message: dict[str, Any] = {key: np.asarray(observation[key]) for key in wanted if key in observation}
        if text is not None:
            message["instruction"] = text
        if not message:  # the server would take it for a reset
            raise ValueError(
                f"the observation has nothing that the policy reads (it has {', '.join(map(str, observation))}): give "
                f"{', '.join(wanted)} and instruction."
            )
        if self._start:
            message["reset"] = True
        data = pack(message)
        self._queue.clear()
        answer = self._exchange(data)
        if not isinstance(answer, dict) or not isinstance(answer.get("actions"), np.ndarray):
            raise self._failed("the answer holds no actions")
        if not len(answer["actions"]):
            raise self._failed("the answer holds 0 actions")
        return deque(np.array(answer["actions"][: self.render_every], np.float32))

    def _exchange(self, data: bytes | None) -> Any:
        """Send a message, if there is one, and receive the next."""
        assert self._connection is not None
        try:
            if data is not None:
                with contextlib.suppress(ConnectionClosed):  # it may have said why before it closed
                    self._connection.send(data)
            answer = self._connection.recv(self._timeout)
            if isinstance(answer, str):
                raise self._failed(answer, said=True)
            return unpack(answer)
        except TimeoutError as error:
            raise self._failed(f"it did not answer within {self._timeout:g} s") from error
        except ConnectionClosed as error:
            raise self._failed(f"it closed the connection ({error})") from error
        except CodecError as error:
            raise self._failed(str(error)) from error
        except BaseException:
            self._drop()  # an answer that comes later would be taken for that of the next observation
            raise

    def _connect(self) -> dict[str, Any]:
        headers = {"Authorization": f"Api-Key {self._key}"} if self._key is not None else None
        try:
            opening = connect(
                self.url,
                sock=self._socket(),
                compression=None,
                max_size=MAX_ANSWER_BYTES,
                additional_headers=headers,
                open_timeout=self._open_timeout,
                close_timeout=2,
                **self._pings,
            )
            self._connection = opening.__enter__()  # websockets 17 opens it here; `close` is what `__exit__` does
            # one who is forgotten, as where a notebook's cell runs again, must not keep a place at the server
            self._forgotten = weakref.finalize(self, _forget, self._connection, os.getpid())
        except InvalidStatus as error:
            said = (error.response.body or b"").decode("utf-8", "replace").strip()
            raise self._failed(said or str(error), said=True) from error
        except (InvalidURI, ValueError) as error:
            raise RemoteError(f"{self.url!r} is no address of a server; give ws://HOST:PORT") from error
        except (OSError, TimeoutError, WebSocketException) as error:
            raise self._failed(f"cannot connect ({error}); start it with `rf-agent serve`") from error
        metadata = self._exchange(None)
        if not isinstance(metadata, dict) or not {"cameras", "state", "n_action_steps"} <= metadata.keys():
            raise self._failed("it says nothing of cameras and n_action_steps; RemotePolicy needs `rf-agent serve`")
        if metadata.get("protocol", PROTOCOL) > PROTOCOL:
            raise self._failed(
                f"it speaks version {metadata['protocol']} of the protocol, this client {PROTOCOL}: install the "
                "server's version of roboflamingo-agent here"
            )
        self._start = True
        return metadata

    def _socket(self) -> socket.socket | None:
        """Without TLS: a connection of its own, as robots are not reached through a web proxy."""
        parts = urlsplit(self.url)
        if parts.scheme != "ws" or not parts.hostname:
            return None
        found = socket.create_connection((parts.hostname, parts.port or 80), timeout=self._open_timeout)
        found.settimeout(None)
        return found

    def _failed(self, reason: str, said: bool = False) -> RemoteError:
        self._drop()
        return RemoteError(f"the server {self.url} says: {reason}" if said else f"the server {self.url}: {reason}")

    def _drop(self) -> None:
        """Leave the connection without waiting for it."""
        connection, self._connection = self._connection, None
        self._queue.clear()
        self._start = True
        if connection is not None:
            self._forgotten.detach()
            _hang_up(connection)
            connection.close()


def _forget(connection: ClientConnection, owner: int) -> None:
    """Hang up; but not in a forked child, whose copy is no connection of its own."""
    if os.getpid() == owner:
        _hang_up(connection)


def _hang_up(connection: ClientConnection) -> None:
    """End a connection without waiting for the other side."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
