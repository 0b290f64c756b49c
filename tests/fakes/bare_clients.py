"""A server in this process, and bare clients of it."""

import contextlib
import time
import urllib.error
import urllib.request

from fake_policy import FakePolicy
from websockets.sync.client import connect

from rf_agent.serving.codec import pack, unpack
from rf_agent.serving.server import PolicyServer


@contextlib.contextmanager
def served(policy=None, **options):
    with PolicyServer(policy or FakePolicy(), port=0, **options) as server:
        yield server


@contextlib.contextmanager
def connected(server, **options):
    """A bare connection, after the metadata."""
    with connect(server.url, compression=None, max_size=None, close_timeout=1, **options) as connection:
        assert unpack(connection.recv())["policy"] == "policy"
        yield connection


def ask(connection, message):
    connection.send(message if isinstance(message, bytes | str) else pack(message))
    answer = connection.recv(10)
    return answer if isinstance(answer, str) else unpack(answer)


def get(server, path, **headers):
    address = server.url.replace("ws", "http", 1) + path
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def upgrade(raw, path="/"):
    raw.settimeout(10)
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return raw.recv(4096)


def drain(raw):
    found = b""
    with contextlib.suppress(OSError):
        while part := raw.recv(4096):
            found += part
    return found
