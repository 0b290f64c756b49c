"""The server: openpi's websocket protocol, for robots and simulators on other machines."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rf_agent.errors import UserError
from rf_agent.serving.admission import Admission, peer_name
from rf_agent.serving.batcher import Batcher, State
from rf_agent.serving.codec import pack, unpack
from rf_agent.serving.metrics import Metrics
from rf_agent.serving.observations import ObservationReader, server_metadata

log = logging.getLogger(__name__)

ERROR_CODE, BUSY_CODE = 1011, 1013  # of RFC 6455: internal error, try again later
UNREADABLE = {
    1002: "what was sent is no frame of websocket ({}); use a websocket client",
    1007: "a text was sent that is not UTF-8 ({}); send a map in msgpack",
    1009: "a message is too large ({}); send smaller images, or raise --max-message-mb",
}
"""Codes with which the library closes on a message that it does not read itself, and what is logged of it."""
REFUSED = "its message was refused"
MAX_QUEUE = 1
"""Frames of a connection that wait before it is read no further, one more being there by then."""
TIDY_SECONDS = 30
"""How often the memory of clients that have gone is handed back."""


@dataclass(frozen=True)
class Limits:
    """What a client may cost."""

    message_bytes: int = 16 << 20
    """Of one message; two images of 1920 x 1080 are 12 MB. A connection costs up to five messages: those that wait, the
    one that is answered, and its part of the batch."""
    connections: int = 64
    """Open at once."""
    handshake_seconds: float | None = 10
    """Until a connection has said what it wants; None waits for ever."""
    send_seconds: float | None = 20
    """Until a client has taken its answer; None waits for ever."""
    ping_seconds: float | None = 20
    """Between the pings that find dead clients, and until one must be answered; None sends none."""


class PolicyServer:
    """Serves a policy from threads of this process while its context is open.

    A connection is one environment, with a history of its own. Those that wait are answered as one batch.

    Args:
        policy: has `config` and `predict_steps`, as `RoboFlamingoPolicy` has.
        name: what clients are told it is called.
        host: address to listen at; the default is seen from this machine alone.
        port: 0 takes a free one.
        api_key: what clients must send as `Authorization: Api-Key KEY`; None lets all in.
        allow_origins: web pages (such as `https://example.org`) whose scripts may connect; browsers name the page.
        limits: what a client may cost.

    Raises:
        UserError: on entering, where it cannot listen there.

    Examples:
        >>> with PolicyServer(policy, port=0) as server:
        ...     action = RemotePolicy(server.url).act(observation)
    """

    def __init__(
        self,
        policy: Any,
        name: str = "policy",
        host: str = "127.0.0.1",
        port: int = 8000,
        api_key: str | None = None,
        allow_origins: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.metrics = Metrics()
        self._metadata = server_metadata(policy.config, name)
        self._reader = ObservationReader.of(self._metadata)
        self._limits = limits or Limits()
        self._batcher = Batcher(policy)
        self._admission = Admission(
            self.metrics, self._limits.connections, api_key, allow_origins, lambda: self._batcher.trouble
        )
        self._gone = 0  # connections that have ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._listening = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rf_agent.serving.server", daemon=True)

    @property
    def url(self) -> str:
        """Where clients of this machine find it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    def __enter__(self) -> PolicyServer:
        # What is there now stays, and torch alone is 200 ms of it: later collections see what clients left behind.
        gc.collect()
        gc.freeze()
        self._batcher.__enter__()
        self._thread.start()
        self._listening.wait()
        if self._error is not None:
            self.__exit__()
            raise _explained(self._error, self.host, self.port) from self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._batcher.__exit__()
        gc.unfreeze()

    def running(self, timeout: float) -> bool:
        """Wait so many seconds for the server to end; whether it still runs and its policy answers."""
        self._thread.join(timeout)
        return self._thread.is_alive() and self._batcher.alive

    @property
    def error(self) -> BaseException | None:
        """What ended the server, or its policy, by itself."""
        return self._error or self._batcher.error

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except BaseException as error:
            self._error = error
            log.debug("the server ended", exc_info=True)
        finally:
            self._listening.set()

    async def _listen(self) -> None:
        self._loop, limits = asyncio.get_running_loop(), self._limits
        listener = await serve(
            self._handle,
            self.host,
            self.port,
            process_request=self._admission.process_request,
            compression=None,  # openpi's; and a small message cannot unpack to a large one
            max_size=limits.message_bytes,
            max_queue=MAX_QUEUE,
            open_timeout=limits.handshake_seconds,
            ping_interval=limits.ping_seconds,
            ping_timeout=limits.ping_seconds,
            close_timeout=2,
            server_header=None,
            logger=_library_log(),
        )
        async with listener:
            self.port = _port(listener)
            self._stop = asyncio.Event()
            self._listening.set()
            tidying, stopping = asyncio.ensure_future(self._tidy()), asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((tidying, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not tidying.cancel():
                tidying.result()  # raises why it has ended
            stopping.cancel()

    async def _tidy(self) -> None:
        """Hand memory back now and then: connections that failed are circles of objects, and the C library keeps what
        large messages took."""
        seen = -1
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if self._gone != seen:
                seen = self._gone
                await asyncio.to_thread(free_memory)

    async def _handle(self, connection: ServerConnection) -> None:
        """One environment, from its first message to its last."""
        if (sentence := self._admission.full()) is not None:  # several shook hands at once
            self.metrics.refused["full"] += 1
            await self._end(connection, sentence, BUSY_CODE)
            return
        self.metrics.connections += 1
        self.metrics.opened += 1
        log.info("%s connected", peer_name(connection))
        reason = "gone"
        try:
            await self._send(connection, pack(self._metadata))
            reason = await self._answer_all(connection)
        except ConnectionClosed as closed:
            reason = self._closed(connection, closed)
        except asyncio.TimeoutError:
            reason = f"did not take its answer within {self._limits.send_seconds:g} s"
        finally:
            self.metrics.connections -= 1
            self._gone += 1
            log.info("%s disconnected: %s", peer_name(connection), reason)

    async def _answer_all(self, connection: ServerConnection) -> str:
        """Answer messages until the connection ends; returns why it did."""
        state: State | None = None
        start, before = True, None
        while True:
            message = await connection.recv()
            begun = time.perf_counter()
            try:
                if isinstance(message, str):
                    raise ValueError("a text message was sent; send a map in msgpack")
                observation, restart = self._reader.read(unpack(message))
            except (ValueError, MemoryError, SystemError, OverflowError) as error:
                return await self._refuse(connection, "refused", _sentence(error))
            del message
            start = start or restart
            if observation is None:
                await self._send(connection, pack({"reset": True}))
                continue
            try:
                answer = await self._batcher.submit(observation, state, start)
            except Exception as error:
                return await self._refuse(connection, "failed", _sentence(error))
            del observation
            state, start = answer.state, False
            timing = {"infer_ms": answer.seconds * 1000}
            if before is not None:
                timing["prev_total_ms"] = before * 1000
            await self._send(connection, pack({"actions": answer.actions, "server_timing": timing}))
            before = time.perf_counter() - begun
            self.metrics.requests["answered"] += 1
            self.metrics.request_seconds.add(before)
            self.metrics.policy_seconds.add(answer.seconds)
            self.metrics.batch_size.add(answer.batch)

    def _closed(self, connection: ServerConnection, closed: ConnectionClosed) -> str:
        """Count a message that the library refused; returns why the connection has ended."""
        if closed.sent and closed.sent.code in UNREADABLE and not closed.rcvd_then_sent:
            self.metrics.requests["refused"] += 1
            log.warning("%s: %s", peer_name(connection), UNREADABLE[closed.sent.code].format(closed.sent.reason))
            return REFUSED
        return _close_reason(closed)

    async def _refuse(self, connection: ServerConnection, outcome: str, sentence: str) -> str:
        self.metrics.requests[outcome] += 1
        log.warning("%s: %s", peer_name(connection), sentence)
        await self._end(connection, sentence, ERROR_CODE)
        return REFUSED if outcome == "refused" else "the policy failed"

    async def _end(self, connection: ServerConnection, sentence: str, code: int) -> None:
        """Say why as text, which openpi's client raises, and close."""
        await self._send(connection, sentence)
        await connection.close(code, "the frame before says why")

    async def _send(self, connection: ServerConnection, data: str | bytes) -> None:
        """Send, or leave a client that does not take it. `asyncio.wait_for` would cost a task for every answer."""
        late = False

        def leave() -> None:
            nonlocal late
            late = True
            connection.transport.abort()

        seconds = self._limits.send_seconds
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, leave)
        try:
            await connection.send(data)
        except ConnectionClosed:
            if not late:
                raise
        finally:
            if timer is not None:
                timer.cancel()
        if late:
            raise asyncio.TimeoutError


def free_memory() -> None:
    """Hand back what the process holds and does not need."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # glibc has it, others need it less
        ctypes.CDLL(None).malloc_trim(0)


def _port(server: Server) -> int:
    return next(iter(server.sockets)).getsockname()[1]


def _close_reason(closed: ConnectionClosed) -> str:
    frame = closed.sent if closed.sent and closed.sent.code not in (1000, 1001) else closed.rcvd
    if frame is None:
        return "the connection was lost"
    # the client's words, which must not look like lines of this log or command a terminal
    reason = "".join(letter if letter.isprintable() else "?" for letter in frame.reason)
    return f"closed with code {frame.code}" + (f" ({reason})" if reason else "")


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text or 'no message'}"


def check_free(host: str, port: int) -> None:
    """Raise UserError where a server could not listen now, so that this shows before a policy is loaded."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, OverflowError) as error:
        raise _explained(error, host, port) from error


def _explained(error: BaseException, host: str, port: int) -> BaseException:
    if not isinstance(error, OSError | OverflowError):
        return error
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return UserError(f"port {port} of {host} is in use: give another --port, or end the program that listens there")
    reason = getattr(error, "strerror", None) or error
    return UserError(f"cannot listen at {host}, port {port} ({reason}): give another --host or --port")


class _OneLine(logging.Filter):
    """What the library logs of connections that fail, such as a handshake of garbage, without its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            reason = record.exc_info[1]
            record.msg, record.args = f"{record.getMessage()}: {' '.join(str(reason).split())}", ()
            record.exc_info = None
        return True


def _library_log() -> logging.Logger:
    found = logging.getLogger(f"{__name__}.websockets")
    found.setLevel(logging.WARNING)
    if not any(isinstance(entry, _OneLine) for entry in found.filters):
        found.addFilter(_OneLine())
    return found
