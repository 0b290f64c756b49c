"""The page and its WebSocket: what comes from outside is checked here, and goes on to a table."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterable
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from rf_agent.play.messages import BadMessage, parse
from rf_agent.play.tables import Table, Tables

logger = logging.getLogger("rf_agent.play")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
SEND_SECONDS = 20.0
"""How long a page may take to take a message."""
ROOM_SECONDS = 0.05
"""How often a tab that waits for its table looks whether there is room."""
MESSAGES_A_SECOND = 60
"""A page that drives sends 15, and 30 more where a key is held on a button."""
AVERAGED_SECONDS = SEND_SECONDS
"""Time over which they are counted: a network that stalls for so long delivers all that was sent meanwhile at once."""
POLICY_VIOLATION, TOO_LARGE, INTERNAL_ERROR, TRY_AGAIN_LATER = 1008, 1009, 1011, 1013
"""WebSocket's codes of why a connection is closed."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(tables: Tables, host: str = "127.0.0.1") -> ASGIApp:
    """The application.

    Args:
        tables: where tabs get their tables; closed with the application.
        host: the name under which it is served, beside numeric addresses, `localhost` and this machine's own name.
    """
    names = {"localhost", host.lower(), socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tables.prepare()
        try:
            yield
        finally:
            await asyncio.to_thread(tables.close)

    async def recording(request: Request) -> Response:
        path = tables.recording(request.path_params["name"])
        if path is None:
            return PlainTextResponse("There is no such recording.", 404)
        return FileResponse(path, filename=path.name)

    async def table(socket: WebSocket) -> None:
        await _serve(socket, tables)

    routes = [Route(path, _file(*file)) for path, file in PAGE.items()]
    app = Starlette(
        routes=[*routes, Route("/recordings/{name}", recording), WebSocketRoute("/table", table)], lifespan=lifespan
    )
    return Guard(app, names)


def _file(name: str, kind: str) -> Any:
    async def answer(request: Request) -> Response:
        content = (resources.files("rf_agent.play") / "page" / name).read_text(encoding="utf-8")
        return Response(content, media_type=kind)

    return answer


class Guard:
    """Lets in what comes from our own page only, and adds headers that keep the page to itself.

    A name that is not ours would let a foreign page reach this server through a DNS entry of its own; a WebSocket from
    a foreign page carries that page's origin.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reason = self._reason(headers, scope["type"] == "websocket")
        if reason is not None:
            logger.warning("Refused: %s", reason)
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason[:100]})
            else:
                await PlainTextResponse(reason, 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, with_headers)

    def _reason(self, headers: Headers, is_socket: bool) -> str | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return f"The host {host[:80]!r} is not this server's name; open the page under its printed address."
        origin = headers.get("origin", "")
        if is_socket and not _is_page_of(origin, host):
            return f"A page of {origin[:80]!r} asked for a table; only this server's own page may."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return False


def _is_page_of(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as an unfinished IPv6 address
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


async def _serve(socket: WebSocket, tables: Tables) -> None:
    """One tab, from its opening to its end."""
    await socket.accept()
    first = asyncio.create_task(socket.receive())  # heard before there is a table: the tab may be closed while it waits
    try:
        if await _wait_for_room(first, tables):
            await _play(socket, tables, first)
    except asyncio.CancelledError:  # the server ends, and need not say so
        pass
    finally:
        first.cancel()


async def _wait_for_room(first: asyncio.Task[Message], tables: Tables) -> bool:
    """Wait while tables of closed tabs end; False if this tab is closed meanwhile."""
    while not tables.make_room():
        await asyncio.sleep(ROOM_SECONDS)
        if first.done() and first.result()["type"] == "websocket.disconnect":
            return False
    return True


async def _play(socket: WebSocket, tables: Tables, first: asyncio.Task[Message]) -> None:
    """A tab with its table, if there is one for it."""
    table = tables.take()
    if table is None:
        noun = "table is" if tables.limit == 1 else "tables are"
        text = f"{tables.limit} {noun} open, which is the limit: close another tab, or start with a larger --tables."
        logger.warning("Refused a tab: %s", text)
        await _end(socket, "full", text, TRY_AGAIN_LATER)
        return
    sending = _Sending()
    parts = (_listen(socket, table, first), _talk(socket, table, sending), _watch(sending))
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.exception()) and not isinstance(error, WebSocketDisconnect | RuntimeError):
                logger.error("A table failed: %s", error)
    finally:
        for task in tasks:
            task.cancel()
        tables.give_back(table)  # at once: whoever ends the server may end this task, too


async def _listen(socket: WebSocket, table: Table, first: asyncio.Task[Message]) -> None:
    """Commands of the page, from the first one on, until it closes or sends what no page of ours sends."""
    allowance = Allowance()
    message = await first
    while message["type"] != "websocket.disconnect":
        try:
            allowance.use()
            text = message.get("text")
            command = parse(message["bytes"] if text is None else text)
        except BadMessage as error:
            logger.warning("Closed a connection: %s", error)
            await _end(socket, "refused", f"{error} The connection is closed; reload the page.", POLICY_VIOLATION)
            return
        await asyncio.to_thread(table.send, command)
        message = await socket.receive()
    if message.get("code") == TOO_LARGE:  # the server itself has refused it, without reading it
        logger.warning("Closed a connection: A message was larger than any that a page sends.")


class Allowance:
    """How many messages a page may still send: `MESSAGES_A_SECOND`, averaged over `AVERAGED_SECONDS`."""

    def __init__(self) -> None:
        self._left, self._since = MESSAGES_A_SECOND * AVERAGED_SECONDS, time.monotonic()

    def use(self) -> None:
        """Count a message. Raises BadMessage if it is one too many."""
        now = time.monotonic()
        earned = (now - self._since) * MESSAGES_A_SECOND
        self._left, self._since = min(MESSAGES_A_SECOND * AVERAGED_SECONDS, self._left + earned) - 1, now
        if self._left < 0:
            raise BadMessage(f"More than {MESSAGES_A_SECOND} messages a second came, for {AVERAGED_SECONDS:g} s.")


class _Sending:
    """Since when a message waits to be taken by its page."""

    since: float | None = None


async def _watch(sending: _Sending) -> None:
    """Until the page takes nothing any more: its computer sleeps or has lost its network; others may have its table."""
    while sending.since is None or time.monotonic() - sending.since < SEND_SECONDS:
        await asyncio.sleep(SEND_SECONDS / 10)
    logger.warning("Closed a connection: The page took nothing for %g s.", SEND_SECONDS)


async def _talk(socket: WebSocket, table: Table, sending: _Sending) -> None:
    """Frames and messages for the page, until the table ends."""
    while messages := await table.receive():
        for message in messages:
            sending.since = time.monotonic()
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_text(message)
            sending.since = None
    guess = "The table's process ended, perhaps for want of memory; reload the page for another one."
    logger.error(table.fatal or guess)
    await _end(socket, "fatal" if table.fatal else "ended", table.fatal or guess, INTERNAL_ERROR)


async def _end(socket: WebSocket, kind: str, text: str, code: int) -> None:
    """Say why, and close."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(json.dumps({"type": kind, "text": text}))
        await socket.close(code)
