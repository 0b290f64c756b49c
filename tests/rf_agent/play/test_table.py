"""The process of a table: what its loop sends, and what does not end it."""

import json
import multiprocessing
import os
import signal
import threading
import time

import pytest
from fake_sessions import do

from rf_agent.play import tables as tables_module
from rf_agent.play.table import FRAME, Loop, PipeClosed, TableSettings
from rf_agent.play.tables import Table, Tables


class Running:
    """A session in a loop, and the other end of its pipe."""

    def __init__(self, session):
        self.session = session
        self.ours, theirs = multiprocessing.Pipe()
        self.loop = Loop(theirs, session)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def send(self, **command):
        self.ours.send_bytes(json.dumps(command).encode())

    def hear(self, kind, fits=lambda message: True):
        """The next message of a kind that fits."""
        while self.ours.poll(20):
            data = self.ours.recv_bytes()
            if data[:1] == FRAME:
                if kind == "frame":
                    return data
                continue
            message = json.loads(data[1:])
            if message["type"] == kind and fits(message):
                return message
        raise AssertionError(f"no {kind}")

    def end(self):
        self.ours.send_bytes(b"")
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running(make):
    running = Running(make())
    yield running
    running.end()


def test_what_is_asked_is_done_shown_and_said(running):
    running.hear("state")
    running.send(do="ask", instruction="go left")
    running.hear("frame")
    assert running.hear("asked", lambda asked: asked["outcome"] == "done")["instruction"] == "go left"


def test_a_full_disk_ends_the_video_and_nothing_else(running, monkeypatch):
    pytest.importorskip("imageio")
    from rf_agent.evaluation.video import Video

    running.send(do="video", on=True)
    running.hear("state", lambda state: state["video"])

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Video, "add", full)
    running.send(do="ask", instruction="go left")
    assert "The video cannot be written" in running.hear("problem")["text"]
    assert running.hear("state", lambda state: not state["video"])
    running.hear("asked", lambda asked: asked["outcome"] == "done")


def test_a_view_that_cannot_be_drawn_ends_nothing(running, monkeypatch):
    monkeypatch.setattr(running.session, "views", lambda: 1 / 0)
    running.send(do="ask", instruction="go left")
    assert "division by zero" in running.hear("problem")["text"]
    running.hear("asked", lambda asked: asked["outcome"] == "done")


def test_the_loop_ends_with_its_pipe(make):
    session = make()
    ours, theirs = multiprocessing.Pipe()
    loop = Loop(theirs, session)
    ours.close()
    with pytest.raises(PipeClosed):
        loop.run()
    with pytest.raises(PipeClosed):
        loop.send_views()
    do(session, do="ask", instruction="go left")
    with pytest.raises(PipeClosed):
        loop.tell()


def test_a_process_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(tables_module, "END_SECONDS", 1)
    table = Table(TableSettings("fake/Task-v0", policy="expert", modules=("fake_env",)))
    while table._frame is None:
        assert not table.ended
        time.sleep(0.05)
    os.kill(table._process.pid, signal.SIGSTOP)

    def flood():
        for _ in range(100_000):  # until the pipe is full and this thread hangs, too
            if table.ended:
                return
            table.send({"do": "pause", "on": True})

    sender = threading.Thread(target=flood, daemon=True)
    closing = threading.Thread(target=table.close, daemon=True)
    try:
        sender.start()
        time.sleep(1)
        assert sender.is_alive()
        closing.start()
        closing.join(20)
        assert not closing.is_alive() and not table._process.is_alive()
        sender.join(20)
        assert not sender.is_alive()
    finally:
        table.kill()  # or pytest would wait for it for ever


def wait(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture
def lone(tmp_path, monkeypatch):
    """A table at a time, each with as much time to end as a busy machine needs."""
    monkeypatch.setattr(tables_module, "END_SECONDS", 30)
    tables = Tables(TableSettings("fake/Task-v0", policy="expert", recordings=tmp_path, modules=("fake_env",)), 1)
    yield tables
    tables.close()


def film(tables):
    """Take a table and begin a video; its process stands still then."""
    wait(tables.make_room)
    table = tables.take()
    table.send({"do": "video", "on": True})
    wait(lambda: '"video": true' in (table._state or ""))
    os.kill(table._process.pid, signal.SIGSTOP)
    return table


def test_a_table_that_records_is_not_killed_for_the_next_one(lone, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    table = film(lone)
    try:
        lone.give_back(table)
        idle = lone.take()  # the one that was prepared
        os.kill(idle._process.pid, signal.SIGSTOP)  # so that it does not end of itself
        lone.give_back(idle)
        assert not lone.make_room()  # two processes end, so that a third would be one too many
        wait(lone.make_room, 15)
        assert lone.take() is not None
    finally:
        os.kill(table._process.pid, signal.SIGCONT)
    wait(lambda: list(tmp_path.glob("play-*-1.mp4")))


def test_a_tab_waits_while_two_tables_finish_their_videos(lone, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    tables = []
    try:
        for _ in range(2):
            tables.append(film(lone))
            lone.give_back(tables[-1])
        assert not lone.make_room() and not lone.make_room()
        os.kill(tables[0]._process.pid, signal.SIGCONT)
        wait(lone.make_room)
    finally:
        for table in tables:
            if table._process.is_alive():
                os.kill(table._process.pid, signal.SIGCONT)
    lone.close()
    assert len(list(tmp_path.glob("play-*-1.mp4"))) == 2
