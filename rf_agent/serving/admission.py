"""Who is let in: what the server answers to HTTP requests before they become connections."""

from __future__ import annotations

import hmac
import http
import logging
import re
from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from rf_agent.errors import UserError
from rf_agent.serving.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)


class Admission:
    """Answers health checks, metrics and those who may not connect.

    Args:
        metrics: counts who was refused, and knows how many are connected.
        most: connections open at once.
        api_key: what clients must send as `Authorization: Api-Key KEY`; None lets all in.
        allow_origins: web pages whose scripts may connect; browsers name the page.
        trouble: why the policy does not answer; empty where it does.
    """

    def __init__(
        self,
        metrics: Metrics,
        most: int,
        api_key: str | None,
        allow_origins: Sequence[str],
        trouble: Callable[[], str],
    ) -> None:
        self._metrics, self._most, self._trouble = metrics, most, trouble
        self._key = None if api_key is None else f"Api-Key {api_key}".encode()
        self._origins = origins(allow_origins)

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to an HTTP request, or None for one that becomes a connection."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return _respond(503, f"{trouble}\n") if (trouble := self._trouble()) else _respond(200, "OK\n")
        if path not in ("/", "/metrics"):
            return self._deny(connection, 404, "path", f"there is no {path[:60]!r} here; connect to /")
        foreign = [origin for origin in request.headers.get_all("Origin") if origin not in self._origins]
        if foreign:
            return self._deny(
                connection, 403, "origin", f"the web page {foreign[0][:60]!r} may not connect; see --allow-origin"
            )
        if self._key is not None and not _has_key(request.headers, self._key):
            return self._deny(
                connection, 401, "key", "the key is missing or wrong; send the header `Authorization: Api-Key KEY`"
            )
        if path == "/metrics":
            return _respond(200, self._metrics.text(), CONTENT_TYPE)
        if (sentence := self.full()) is not None:
            return self._deny(connection, 503, "full", sentence)
        return None

    def full(self) -> str | None:
        """The sentence for one who comes when as many are connected as may be; None while there is room."""
        if self._metrics.connections < self._most:
            return None
        return f"{self._most} clients are connected, as many as are let in; try again later"

    def _deny(self, connection: ServerConnection, status: int, reason: str, sentence: str) -> Response:
        self._metrics.refused[reason] += 1
        log.warning("%s was not let in: %s", peer_name(connection), sentence)
        return _respond(status, sentence + "\n")


def origins(addresses: Sequence[str]) -> frozenset[str]:
    """Web pages as browsers name them. Raises UserError for what is no address of one."""
    for address in addresses:
        if not re.fullmatch(r"null|[a-z][a-z0-9+.-]*://[^/]*/?", address, re.IGNORECASE):
            raise UserError(f"--allow-origin is {address!r}: give the address of a page, such as https://example.org")
    return frozenset(re.sub("(?<=[^/])/$", "", address).lower() for address in addresses)


def peer_name(connection: ServerConnection) -> str:
    """What a client is called in the log."""
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "a client"


def _has_key(headers: Headers, key: bytes) -> bool:
    given = headers.get_all("Authorization")
    return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), key)


def _respond(status: int, text: str, kind: str = "text/plain; charset=utf-8") -> Response:
    body = text.encode("utf-8", "replace")
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
