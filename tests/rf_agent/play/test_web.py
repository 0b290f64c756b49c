"""The page's server: what it serves, and what it refuses."""

import asyncio
import io
import json
import logging
import multiprocessing
import re
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rf_agent.errors import UserError
from rf_agent.play import web
from rf_agent.play.frames import FRAME, HEADER
from rf_agent.play.messages import BadMessage
from rf_agent.play.table import TableSettings
from rf_agent.play.tables import Tables
from rf_agent.play.web import make_app

HERE = "http://127.0.0.1:8080"
ORIGIN = {"host": "127.0.0.1:8080", "origin": HERE}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def tables(recordings):
    tables = Tables(TableSettings("fake/Task-v0", policy="expert", recordings=recordings, modules=("fake_env",)), 2)
    yield tables
    tables.close()


@pytest.fixture(scope="module")
def client(tables):
    with TestClient(make_app(tables), base_url=HERE) as client:
        yield client


def decode(message):
    """The images of a frame, read as the page does."""
    kind, size = HEADER.unpack_from(message)
    assert kind == FRAME
    parts = [message[HEADER.size : HEADER.size + size], message[HEADER.size + size :]]
    return [np.asarray(Image.open(io.BytesIO(part))) for part in parts if part]


class Page:
    """The other end of a WebSocket."""

    def __init__(self, socket):
        self._socket = socket
        self.frames = 0
        self.heard = []

    def send(self, **message):
        self._socket.send_text(json.dumps(message))

    def hear(self, kind, fits=lambda message: True):
        """The next message of a kind that fits; frames on the way are counted."""
        for _ in range(500):
            event = self._socket.receive()
            if event["type"] == "websocket.close":
                raise WebSocketDisconnect(event["code"])
            if event.get("bytes") is not None:
                assert [image.ndim for image in decode(event["bytes"])] == [3, 3]
                self.frames += 1
                continue
            message = json.loads(event["text"])
            self.heard.append(message)
            if message["type"] == kind and fits(message):
                return message
        raise AssertionError(f"no {kind}")


ELSEWHERE = re.compile(r"""\b(?:https?|wss?|ftp)://[^\s"'`]*|["'`(]//[^\s"'`]*|@import[^;]*""")
"""Addresses with a server in them, and whatever a style sheet imports."""


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200 and "play table" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    linked = re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']([^"']*)""", page.text)
    assert sorted(linked) == ["data:,", "page.css", "page.js"]
    for path in ("/", "/page.css", "/page.js"):
        text = client.get(path).text
        assert len(text) > 1000
        # the name of SVG's elements is not an address that anything is loaded from
        assert set(ELSEWHERE.findall(text)) <= {"http://www.w3.org/2000/svg"}, path
    style, script = client.get("/page.css").text, client.get("/page.js").text
    assert "url(" not in style
    assert re.findall(r"new WebSocket\((.*)\);", script) == [
        '`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/table`'
    ]
    assert not re.search(r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|eval|fetch|XMLHttpRequest|import)\b", script)


@pytest.mark.parametrize(
    "text", ['<script src="https://a.example/x.js">', "url('//a.example/x')", '@import "x.css"', "wss://a.example"]
)
def test_addresses_elsewhere_are_found(text):
    assert ELSEWHERE.search(text)


def test_a_tab_asks_and_sees_what_came_of_it(client):
    with client.websocket_connect("/table", headers=ORIGIN) as socket:
        page = Page(socket)
        hello = page.hear("hello")
        assert [actor["name"] for actor in hello["actors"]] == ["expert", "hand"]
        page.send(do="ask", instruction="go left")
        assert page.hear("asked")["instruction"] == "go left"
        assert page.hear("asked", lambda asked: asked["outcome"] != "running")["outcome"] == "done"
        assert page.frames > 2
        page.send(do="ask", instruction="x" * 300)
        page.send(do="scene", name="Z")
        assert "no scene" in page.hear("problem", lambda problem: "scene" in problem["text"])["text"]
        page.send(do="ask", instruction="go left")  # it serves on
        page.hear("asked", lambda asked: asked["outcome"] == "done")


@pytest.mark.parametrize("text", ["not json", '{"do": "launch"}', "y" * 5000])
def test_hostile_messages_end_the_connection_and_nothing_else(client, text, caplog):
    with caplog.at_level(logging.WARNING), client.websocket_connect("/table", headers=ORIGIN) as socket:
        page = Page(socket)
        socket.send_text(text)
        refused = page.hear("refused")["text"]
        assert refused.endswith("The connection is closed; reload the page.")
        with pytest.raises(WebSocketDisconnect) as closed:
            page.hear("state", lambda state: False)
        assert closed.value.code == 1008
    assert "Closed a connection: The message" in caplog.text
    assert client.get("/").status_code == 200


def test_too_many_messages_end_the_connection(client):
    with client.websocket_connect("/table", headers=ORIGIN) as socket:
        for _ in range(2000):
            socket.send_text('{"do": "stop"}')
        socket.send_text('{"do": "launch"}')  # so that something is refused in any case
        refused = Page(socket).hear("refused")["text"]
        assert refused.startswith("More than 60 messages a second came, for 20 s.")


def test_what_a_network_delivers_late_and_at_once_is_no_flood(client):
    """A hand that drove while nothing came through, for as long as a page may take nothing."""
    with client.websocket_connect("/table", headers=ORIGIN) as socket:
        page = Page(socket)
        page.hear("hello")
        for _ in range(15 * int(web.SEND_SECONDS)):
            page.send(do="drive", axes={"x": 0.4}, gripper="keep", frame="view")
        page.send(do="ask", instruction="go left")
        page.hear("asked", lambda asked: asked["outcome"] == "done")
        assert "refused" not in [message["type"] for message in page.heard]


def test_messages_are_counted_over_twenty_seconds(monkeypatch, clock):
    monkeypatch.setattr(web, "time", SimpleNamespace(monotonic=clock))
    allowance = web.Allowance()

    def send(seconds, rate):
        for _ in range(seconds * rate):
            clock.now += 1 / rate
            allowance.use()

    send(60, rate=60)
    with pytest.raises(BadMessage, match="60 messages a second"):
        send(30, rate=120)
    assert clock.now == pytest.approx(80, abs=1)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:9999", "file://127.0.0.1:8080", "http://["]
)
def test_pages_of_others_get_no_table(client, origin, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(WebSocketDisconnect) as refused:
        with client.websocket_connect("/table", headers=ORIGIN | {"origin": origin}):
            pass
    assert refused.value.code == 1008
    assert "only this server's own page may" in caplog.text


def test_names_that_are_not_ours_are_refused(client):
    answer = client.get("/", headers={"host": "evil.example:8080"})
    assert answer.status_code == 403 and "is not this server's name" in answer.text
    for name in ("localhost:8080", "[::1]:8080", "192.168.0.7:8080"):
        assert client.get("/", headers={"host": name}).status_code == 200
    with pytest.raises(WebSocketDisconnect):
        headers = {"host": "evil.example:8080", "origin": "http://evil.example:8080"}
        with client.websocket_connect("/table", headers=headers):
            pass


@pytest.mark.parametrize(
    "path",
    [
        "/recordings/../pyproject.toml",
        "/recordings/..%2f..%2fpyproject.toml",
        "/recordings/%2e%2e%2fsecret.mp4",
        "/recordings/secret.mp4",
        "/recordings/play-1.mp4%00",
        "/page/../web.py",
        "/web.py",
    ],
)
def test_no_other_file_is_served(client, recordings, path):
    (recordings / "secret.mp4").write_text("secret")
    (recordings / "play-1.mp4").write_text("written by somebody else")
    answer = client.get(path)
    assert answer.status_code == 404 and "secret" not in answer.text


def test_the_limit_of_tables_is_said(client):
    with client.websocket_connect("/table", headers=ORIGIN) as one:
        Page(one).hear("hello")
        with client.websocket_connect("/table", headers=ORIGIN) as two:
            Page(two).hear("hello")
            with client.websocket_connect("/table", headers=ORIGIN) as three:
                assert Page(three).hear("full")["text"].startswith("2 tables are open, which is the limit")


def test_a_recording_can_be_fetched(client, tmp_path):
    from rf_agent.demos import read_demonstrations

    with client.websocket_connect("/table", headers=ORIGIN) as socket:
        page = Page(socket)
        page.hear("hello")
        page.send(do="record", on=True)
        page.send(do="ask", instruction="go right")
        file = page.hear("file")
        answer = client.get(f"/recordings/{file['name']}")
    assert answer.status_code == 200 and file["kept"] == 1
    (tmp_path / "fetched.hdf5").write_bytes(answer.content)
    (demo,) = read_demonstrations(tmp_path / "fetched.hdf5")
    assert (demo.task, len(demo.actions)) == ("go_right", file["steps"])


def test_an_environment_that_cannot_be_made_is_a_sentence(caplog):
    tables = Tables(TableSettings("fake/None-v0", policy="expert", modules=("fake_env",)), 1)
    with TestClient(make_app(tables), base_url=HERE) as client, caplog.at_level(logging.ERROR):
        with client.websocket_connect("/table", headers=ORIGIN) as socket:
            page = Page(socket)
            with pytest.raises(WebSocketDisconnect) as closed:
                page.hear("nothing")
            assert closed.value.code == 1011
            assert [message["type"] for message in page.heard] == ["fatal"]
            assert "cannot make the environment 'fake/None-v0'" in page.heard[-1]["text"]
    assert [record.message for record in caplog.records] == [page.heard[-1]["text"]]


def test_a_page_that_takes_nothing_gives_its_table_back(monkeypatch, caplog):
    """A computer that sleeps answers nothing, but its connection stays."""

    class Asleep:
        async def accept(self):
            pass

        async def receive(self):
            await asyncio.sleep(60)

        send_bytes = send_text = lambda self, message: asyncio.sleep(60)

    class Lively:
        async def receive(self):
            return [b"frame"]

    table, given_back = Lively(), []
    monkeypatch.setattr(web, "SEND_SECONDS", 0.05)
    tables = SimpleNamespace(make_room=lambda: True, take=lambda: table, give_back=given_back.append)
    asyncio.run(asyncio.wait_for(web._serve(Asleep(), tables), 30))
    assert given_back == [table] and "The page took nothing for 0.05 s" in caplog.text


def test_a_tab_that_is_closed_while_it_waits_gets_no_table():
    class Left:
        async def accept(self):
            pass

        async def receive(self):
            return {"type": "websocket.disconnect", "code": 1001}

    looked = []
    tables = SimpleNamespace(make_room=lambda: looked.append("no room"))
    asyncio.run(asyncio.wait_for(web._serve(Left(), tables), 3))
    assert looked == ["no room"]


def test_reloads_leave_no_crowd_of_processes(recordings):
    settings = TableSettings("fake/Task-v0", policy="expert", recordings=recordings, modules=("fake_env",))
    others, most = set(multiprocessing.active_children()), 0
    with TestClient(make_app(Tables(settings, 1)), base_url=HERE) as client:
        for _ in range(12):
            with client.websocket_connect("/table", headers=ORIGIN):
                most = max(most, len(set(multiprocessing.active_children()) - others))
        with client.websocket_connect("/table", headers=ORIGIN) as socket:
            Page(socket).hear("hello")  # nobody was refused for the others
    assert 1 <= most <= 2


def test_an_agent_that_cannot_begin_leaves_the_table_open():
    settings = TableSettings("fake/Task-v0", policy="fake_agents:Unwilling", modules=("fake_env",))
    with TestClient(make_app(Tables(settings, 1)), base_url=HERE) as client:
        with client.websocket_connect("/table", headers=ORIGIN) as socket:
            page = Page(socket)
            page.send(do="ask", instruction="go left")
            assert page.hear("problem")["text"] == "I would rather not"
            page.send(do="actor", name="expert")
            page.send(do="ask", instruction="go left")
            page.hear("asked", lambda asked: asked["outcome"] == "done")


def test_a_limit_of_no_tables_is_refused():
    with pytest.raises(UserError, match="--tables is 0"):
        Tables(TableSettings(), 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The port of a real server, as the command starts it."""
    from rf_agent.commands.play import Args, _listen, _server

    settings = TableSettings(
        "fake/Task-v0", policy="expert", recordings=tmp_path_factory.mktemp("served"), modules=("fake_env",)
    )
    listener = _listen("127.0.0.1", 0)
    server = _server(Args(policy="expert"), Tables(settings, 1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    listener.close()


def test_frames_are_sent_as_they_are(served):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{served}/table", origin=f"http://127.0.0.1:{served}") as page:
        assert page.protocol.extensions == []  # a compressed JPEG is no smaller
        while not isinstance(page.recv(20), bytes):
            pass


def test_a_message_that_is_far_too_large_is_logged(served, caplog):
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with caplog.at_level(logging.WARNING):
        with connect(f"ws://127.0.0.1:{served}/table", origin=f"http://127.0.0.1:{served}") as page:
            page.send("y" * 100_000)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    page.recv(20)
        assert closed.value.rcvd.code == 1009
        end = time.monotonic() + 20
        while "Closed a connection: A message was larger" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_an_origin_that_is_no_address_is_no_fault_of_the_server(served, caplog):
    with socket.create_connection(("127.0.0.1", served), 10) as raw:
        lines = (
            "GET /table HTTP/1.1",
            f"Host: 127.0.0.1:{served}",
            "Origin: http://[",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 403")
    assert "Traceback" not in caplog.text
