"""The page's server: what it serves, and what it refuses."""

import json
import logging

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rf_agent.errors import UserError
from rf_agent.play.frames import decode
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


class Page:
    """The other end of a WebSocket."""

    def __init__(self, socket):
        self._socket = socket
        self.frames = 0

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
            if message["type"] == kind and fits(message):
                return message
        raise AssertionError(f"no {kind}")


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200 and "play table" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/page.css", "/page.js"):
        text = client.get(path).text
        assert len(text) > 1000 and "://${location.host}" in text or "http" not in text.replace("http://www.w3.org", "")
    assert "innerHTML" not in client.get("/page.js").text


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
        for _ in range(200):
            socket.send_text('{"do": "stop"}')
        assert "within a second" in Page(socket).hear("refused")["text"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:9999", "file://127.0.0.1:8080"]
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


def test_a_recording_can_be_fetched(client):
    from rf_agent.demos import read_demonstrations

    with client.websocket_connect("/table", headers=ORIGIN) as socket:
        page = Page(socket)
        page.hear("hello")
        page.send(do="record", on=True)
        page.send(do="ask", instruction="go right")
        file = page.hear("file")
        answer = client.get(f"/recordings/{file['name']}")
        assert answer.status_code == 200 and answer.content[1:4] == b"HDF"
    assert file["kept"] == 1
    assert read_demonstrations


def test_an_environment_that_cannot_be_made_is_a_sentence():
    tables = Tables(TableSettings("fake/None-v0", policy="expert", modules=("fake_env",)), 1)
    with TestClient(make_app(tables), base_url=HERE) as client:
        with client.websocket_connect("/table", headers=ORIGIN) as socket:
            assert "fake/None-v0" in Page(socket).hear("fatal")["text"]


def test_a_limit_of_no_tables_is_refused():
    with pytest.raises(UserError, match="--tables is 0"):
        Tables(TableSettings(), 0)
