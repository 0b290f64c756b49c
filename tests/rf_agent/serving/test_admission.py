"""Who is let in, and what the server answers over HTTP."""

import contextlib
import logging
import socket

import pytest
from bare_clients import ask, connected, drain, get, served, upgrade, wait_until
from fake_policy import FakePolicy, observe
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rf_agent.errors import UserError
from rf_agent.serving import RemotePolicy
from rf_agent.serving.server import Limits, PolicyServer


def test_the_key_is_asked_for():
    with served(api_key="s3cret") as server:
        for wrong in (None, "", "s3cre", "s3crets", "S3cret", "s3cret s3cret"):
            with pytest.raises(RuntimeError, match="key is missing or wrong"):
                RemotePolicy(server.url, wrong)
        with pytest.raises(InvalidStatus):
            connect(server.url, additional_headers={"Authorization": "Bearer s3cret"}).__enter__()
        assert RemotePolicy(server.url, "s3cret").act(observe(4)).tolist() == [1, 4]
        assert get(server, "/healthz") == (200, "OK\n")
        assert get(server, "/metrics")[0] == 401
        status, text = get(server, "/metrics", Authorization="Api-Key s3cret")
        assert status == 200 and 'rf_connections_refused_total{reason="key"} 8' in text


def test_web_pages_are_refused_unless_they_are_allowed():
    with served(allow_origins=["https://Lab.example/"]) as server:  # as people write it
        for origin in ("https://evil.example", "null", server.url.replace("ws", "http"), "https://lab.example.evil"):
            with pytest.raises(InvalidStatus) as refused:
                connect(server.url, origin=origin).__enter__()
            assert refused.value.response.status_code == 403
            assert origin in refused.value.response.body.decode()
        with connected(server, origin="https://lab.example") as connection:
            assert ask(connection, observe(2))["actions"][0].tolist() == [1, 2]


@pytest.mark.parametrize("page", ["*", "lab.example", "https://lab.example/page", ""])
def test_what_is_no_address_of_a_page_is_refused(page):
    with pytest.raises(UserError, match=r"--allow-origin is .*: give the address of a page, such as https://"):
        PolicyServer(FakePolicy(), port=0, allow_origins=[page])


@pytest.mark.parametrize("page", ["null", "file://", "chrome-extension://abc", "http://localhost:3000"])
def test_whatever_browsers_call_a_page_can_be_allowed(page):
    with served(allow_origins=[page]) as server, connected(server, origin=page) as connection:
        assert ask(connection, observe(2))["actions"][0].tolist() == [1, 2]


def test_only_so_many_clients_are_let_in():
    with served(limits=Limits(connections=2)) as server:
        first, second = RemotePolicy(server.url), RemotePolicy(server.url)
        with pytest.raises(RuntimeError, match="2 clients are connected, as many as are let in; try again later"):
            RemotePolicy(server.url)
        first.close()
        wait_until(lambda: server.metrics.connections == 1)
        assert RemotePolicy(server.url).act(observe(1)).tolist() == [1, 1]
        assert second.act(observe(2)).tolist() == [1, 2]


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/etc/passwd", "/healthz/../x", "//healthz", "/x\\..", "/a"]
)
def test_other_paths_are_not_found(path):
    with served() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            assert upgrade(raw, path).startswith(b"HTTP/1.1 404")
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.settimeout(10)
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert raw.recv(4096).startswith(b"HTTP/1.1 404")
        assert get(server, "/healthz") == (200, "OK\n")


def test_garbage_instead_of_http_is_logged_in_a_line(caplog):
    with served(limits=Limits(handshake_seconds=0.3)) as server, caplog.at_level(logging.INFO):
        for data in (
            b"\x16\x03\x01\x00garbage\r\n\r\n",
            b"\0" * 100_000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000,
            b"G",
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as raw, contextlib.suppress(OSError):
                raw.settimeout(10)
                raw.sendall(data)
                drain(raw)
        assert RemotePolicy(server.url).act(observe(1)).tolist() == [1, 1]
    assert not any(record.exc_info for record in caplog.records)


def test_metrics_are_prometheus_text():
    with served() as server:
        with connected(server) as connection:
            for _ in range(3):
                ask(connection, observe())
            text = get(server, "/metrics")[1]
        assert "# TYPE rf_request_seconds histogram" in text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert values["rf_connections"] == "1" and values["rf_connections_total"] == "1"
        assert values['rf_requests_total{outcome="answered"}'] == "3"
        assert values["rf_request_seconds_count"] == values['rf_request_seconds_bucket{le="+Inf"}'] == "3"
        assert values['rf_batch_size_bucket{le="1"}'] == "3"
