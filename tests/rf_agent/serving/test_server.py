"""The server: every client has its own history, and none holds up the others, whatever it does."""

import contextlib
import gc
import logging
import socket
import struct
import threading
import time

import msgpack
import numpy as np
import pytest
from bare_clients import ask, connected, drain, get, served, upgrade, wait_until
from fake_policy import FakePolicy, observe
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rf_agent.errors import UserError
from rf_agent.serving import RemotePolicy
from rf_agent.serving.batcher import FAILURES
from rf_agent.serving.codec import pack, unpack
from rf_agent.serving.observations import ObservationReader
from rf_agent.serving.server import Limits, PolicyServer


def test_metadata_and_answers_are_openpis():
    with served(name="tiny") as server, connect(server.url, compression=None) as connection:
        metadata = unpack(connection.recv())
        assert metadata == {
            "protocol": 1,
            "policy": "tiny",
            "cameras": {"front": [8, 8, 3], "wrist": [8, 8, 3]},
            "state": {"key": "state", "dim": 2},
            "instruction": "instruction",
            "action_dim": 2,
            "chunk_size": 2,
            "n_action_steps": 1,
            "fps": 10.0,
        }
        first, second = ask(connection, observe(5)), ask(connection, observe(6))
    assert first["actions"].dtype == np.float32
    assert first["actions"].tolist() == [[1, 5], [1, 5]] and second["actions"].tolist() == [[2, 6], [2, 6]]
    assert first["server_timing"].keys() == {"infer_ms"}
    assert second["server_timing"].keys() == {"infer_ms", "prev_total_ms"}


def test_a_reset_restarts_history():
    with served() as server, connected(server) as connection:
        assert ask(connection, observe())["actions"][0, 0] == 1
        assert ask(connection, observe())["actions"][0, 0] == 2
        assert ask(connection, {"reset": True}) == {"reset": True}
        assert ask(connection, observe())["actions"][0, 0] == 1
        assert ask(connection, observe(reset=True))["actions"][0, 0] == 1
        assert ask(connection, observe(reset=False))["actions"][0, 0] == 2


def test_many_clients_share_batches_and_no_answer_is_lost_or_crossed():
    class SlowAtFirst(FakePolicy):  # so that all are there when the second batch is made
        def predict_steps(self, *arguments):
            self.seconds = 0.0 if self.batches else 1.0
            return super().predict_steps(*arguments)

    policy, results = SlowAtFirst(), {}

    def play(name, url):
        with RemotePolicy(url) as agent:
            results[name] = []
            for _episode in range(2):
                agent.reset()
                results[name].append([agent.act(observe(100 * name + step)).tolist() for step in range(20)])

    with served(policy) as server:
        threads = [threading.Thread(target=play, args=(name, server.url)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    for name in range(16):
        assert results[name] == [[[step + 1, 100 * name + step] for step in range(20)]] * 2
    assert sum(policy.batches) == 16 * 40
    assert max(policy.batches) > 8


def test_cameras_of_other_sizes_do_not_disturb():
    with served(FakePolicy(seconds=0.05)) as server:
        agents = [RemotePolicy(server.url) for _ in range(4)]
        results = {}

        def play(index):
            front = np.zeros((6 + index % 2, 5, 3), np.uint8)
            results[index] = [agents[index].act(observe(index, front=front)).tolist() for _ in range(3)]

        threads = [threading.Thread(target=play, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert results == {index: [[1, index], [2, index], [3, index]] for index in range(4)}


def test_an_error_of_the_policy_reaches_the_one_who_asked_alone():
    with served(FakePolicy(seconds=0.05)) as server:
        good, bad = RemotePolicy(server.url), RemotePolicy(server.url)
        answers = []
        thread = threading.Thread(target=lambda: answers.extend(good.act(observe(7)).tolist() for _ in range(10)))
        thread.start()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="negative level"):
                bad.act(observe(-1))
        with pytest.raises(RuntimeError, match="not finite"):
            bad.act(observe(666))
        thread.join(timeout=30)
        assert answers == [[step, 7] for step in range(1, 11)]
        assert bad.act(observe(3)).tolist() == [1, 3]  # connected anew


BAD = {
    "invalid msgpack": (b"\xc1\xc1", "no msgpack"),
    "text": ("hello", "text message"),
    "no map": (pack([1]), "type list"),
    "wrong keys": (pack({"camera": 1}), "'front' or 'observation/image'"),
    "shape": (pack(observe(front=np.zeros((2, 2), np.uint8))), "shape"),
    "dtype": (pack(observe(wrist=np.zeros((4, 4, 3), np.float32))), "float32"),
    "NaN": (pack(observe(np.nan)), "not finite"),
    "objects": (msgpack.packb({"a": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [0]}}), "dtype"),
    "size of text": (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 1 << 30, b"dtype": "|S1"}}), "holds a int"),
    "many instructions": (pack(observe(instruction=np.zeros((1 << 20, 1), np.uint8))), "1048576 entries"),
    "pickle": (b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix", "no msgpack"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_in_a_sentence_and_the_rest_goes_on(kind, caplog):
    data, message = BAD[kind]
    with served() as server, connected(server) as good:
        ask(good, observe())
        with caplog.at_level(logging.INFO, "rf_agent.serving"), connected(server) as bad:
            answer = ask(bad, data)
            assert isinstance(answer, str) and message in answer and "\n" not in answer
            with pytest.raises(ConnectionClosed) as closed:
                bad.recv(10)
            assert closed.value.rcvd.code == 1011
        assert any(record.levelname == "WARNING" and message in record.getMessage() for record in caplog.records)
        assert not any(record.exc_info for record in caplog.records)
        assert ask(good, observe())["actions"][0, 0] == 2
        assert server.metrics.requests["refused"] == 1


def test_too_large_a_message_is_refused_before_it_has_come(caplog):
    with served(limits=Limits(message_bytes=1 << 20)) as server, connected(server) as good:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            upgrade(raw)
            raw.sendall(b"\x82" + bytes([0x80 | 127]) + struct.pack(">Q", 1 << 30) + b"mask")  # a gigabyte is to follow
            assert b"exceeds limit" in drain(raw)
        with connected(server) as bad:
            with pytest.raises(ConnectionClosed) as closed:
                ask(bad, b"\0" * (1 << 21))
            assert closed.value.rcvd.code == 1009
            wait_until(lambda: server.metrics.requests["refused"] == 2)
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(said) == 2  # one of each
        assert all("exceeds limit of 1048576 bytes); send smaller images, or raise --max" in text for text in said)
        assert ask(good, observe())["actions"][0, 0] == 1


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"\x81\x81\0\0\0\0\xff", "not UTF-8"),
        (b"\x83\x80\0\0\0\0", "no frame of websocket"),
        (b"\x82\x01a", "no frame of websocket"),  # without a mask
    ],
)
def test_what_the_library_refuses_counts_too(frame, said, caplog):
    with served() as server, caplog.at_level(logging.WARNING, "rf_agent.serving"):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            upgrade(raw)
            raw.sendall(frame)
            drain(raw)
        wait_until(lambda: server.metrics.requests["refused"] == 1)
        assert [said in record.getMessage() for record in caplog.records] == [True]


def test_a_client_that_closes_with_such_a_code_itself_was_not_refused(caplog):
    with served() as server:
        with caplog.at_level(logging.INFO, "rf_agent.serving"), connected(server) as connection:
            connection.close(1009, "too much")
            wait_until(lambda: server.metrics.connections == 0)
        assert server.metrics.requests["refused"] == 0
        assert "closed with code 1009 (too much)" in caplog.text


def test_a_client_cannot_write_lines_of_the_log(caplog):
    with served() as server, caplog.at_level(logging.INFO, "rf_agent.serving"):
        with connected(server) as connection:
            connection.close(4000, "bye\n12:00 somebody connected\x1b[31m")
        wait_until(lambda: server.metrics.connections == 0)
    assert "closed with code 4000 (bye?12:00 somebody connected?[31m)" in caplog.text


@pytest.mark.parametrize("error", [MemoryError, SystemError, OverflowError])
def test_whatever_is_raised_where_messages_are_read_is_said_and_counted(error, monkeypatch):
    def fail(reader, message):
        raise error("too much")

    with served() as server, connected(server) as bad:
        monkeypatch.setattr(ObservationReader, "read", fail)
        assert ask(bad, observe()) == f"{error.__name__}: too much"
        assert server.metrics.requests["refused"] == 1


def test_a_policy_that_ends_its_thread_is_not_healthy_and_keeps_nobody_waiting(caplog):
    class Ends(FakePolicy):
        def predict_steps(self, observation, state=None, episode_start=None):
            if observation["state"][0, 0] == 9:
                raise SystemExit("enough")
            return super().predict_steps(observation, state, episode_start)

    with served(Ends()) as server, connected(server) as good, connected(server) as bad:
        ask(good, observe())
        assert get(server, "/healthz") == (200, "OK\n") and server.running(timeout=0)
        for connection in (bad, good):
            answer = ask(connection, observe(9))
            assert "the policy has ended (SystemExit: enough); start the server anew" in answer
        assert get(server, "/healthz") == (503, "the policy has ended\n")
        assert not server.running(timeout=0) and isinstance(server.error, SystemExit)


def test_a_policy_that_always_fails_is_not_healthy_until_it_answers():
    class Fails(FakePolicy):
        def predict_steps(self, observation, state=None, episode_start=None):
            if observation["state"][0, 0] == 7:
                return np.full((1, 2, 2), np.nan), (np.ones(1),)
            if observation["state"][0, 0] in (8, 9):
                raise ValueError("it is wrong") if observation["state"][0, 0] == 8 else RuntimeError("CUDA error")
            return super().predict_steps(observation, state, episode_start)

    with served(Fails()) as server:
        ok, broken = (200, "OK\n"), (503, "the policy failed 10 times in a row\n")
        answers = {8: ok, 9: broken, 1: ok, 7: broken}
        for value, answer in answers.items():
            for _ in range(FAILURES):
                with connected(server) as connection:
                    ask(connection, observe(value))
            assert get(server, "/healthz") == answer


def test_any_error_of_a_policy_reaches_the_client():
    class Fails(FakePolicy):
        def predict_steps(self, observation, state=None, episode_start=None):
            next(iter(()))

    with served(Fails()) as server, connected(server) as connection:
        assert ask(connection, observe()) == "RuntimeError: StopIteration"


def test_collections_pass_over_what_was_there_before_and_see_it_afterwards():
    before = gc.get_freeze_count()
    with served():
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() == 0


def test_little_is_read_of_a_client_that_does_not_wait_for_answers(monkeypatch):
    read = []  # by the server; what the operating system takes off a client besides is its own affair
    receive = ServerConnection.data_received

    def data_received(self, data):
        read.append(len(data))
        receive(self, data)

    monkeypatch.setattr(ServerConnection, "data_received", data_received)
    policy = FakePolicy()
    asked = threading.Event()
    monkeypatch.setattr(policy, "predict_steps", lambda *_: asked.wait())
    with served(policy) as server:
        data = pack(observe(front=np.zeros((2000, 2000, 3), np.uint8)))
        frame = b"\x82" + bytes([0x80 | 127]) + struct.pack(">Q", len(data)) + b"\0\0\0\0" + data
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            upgrade(raw)
            raw.settimeout(1)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 8 * len(frame):
                    sent += raw.send(memoryview(frame)[sent % len(frame) :])
            received = sum(read)
            asked.set()
    # One that is answered, two that wait, and what is read at once: less than a fourth.
    assert len(frame) < received < 4 * len(frame)


def test_fragments_count_together():
    with served(limits=Limits(message_bytes=1 << 20)) as server, connected(server) as bad:
        with pytest.raises(ConnectionClosed) as closed:
            bad.send([b"\0" * (1 << 18)] * 8)
            bad.recv(10)
        assert closed.value.rcvd.code == 1009


def test_a_slow_client_and_a_dead_one_hold_up_nobody(caplog):
    limits = Limits(ping_seconds=0.5, send_seconds=0.5)
    with (
        caplog.at_level(logging.INFO, "rf_agent.serving"),
        served(FakePolicy(seconds=0.001, chunk_size=30_000), limits=limits) as server,
        connected(server) as good,
        contextlib.ExitStack() as stack,
    ):
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3)]
        for raw in sockets:
            upgrade(raw)
        data = pack(observe())
        frame = b"\x82" + bytes([0x80 | 126]) + struct.pack(">H", len(data)) + b"\0\0\0\0" + data
        sockets[0].sendall(frame[:30])  # and never the rest
        sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        with contextlib.suppress(OSError):  # asks and asks, and never reads an answer
            sockets[1].settimeout(0.5)
            for _ in range(200):
                sockets[1].sendall(frame)
        sockets[2].sendall(frame)
        sockets[2].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sockets[2].close()  # dies with a request under way
        begun = time.monotonic()
        for step in range(10):
            assert ask(good, observe())["actions"][0, 0] == step + 1
        assert time.monotonic() - begun < 5
        wait_until(lambda: server.metrics.connections == 1)  # the others have been found out
        assert ask(good, observe())["actions"][0, 0] == 11


def test_a_client_that_does_not_take_its_answer_is_left(caplog):
    limits = Limits(ping_seconds=None, send_seconds=0.5)
    with (
        caplog.at_level(logging.INFO, "rf_agent.serving"),
        served(FakePolicy(chunk_size=1_000_000), limits=limits) as server,
        socket.create_connection(("127.0.0.1", server.port)) as raw,
    ):
        upgrade(raw)
        data = pack(observe())
        raw.sendall(b"\x82" + bytes([0x80 | 126]) + struct.pack(">H", len(data)) + b"\0\0\0\0" + data)
        wait_until(lambda: server.metrics.opened == 1 and server.metrics.connections == 0)
        assert "disconnected: did not take its answer within 0.5 s" in caplog.text


@pytest.mark.parametrize(("ping_seconds", "left"), [(0.2, 0), (None, 1)])
def test_a_client_that_answers_no_ping_is_dropped_unless_none_are_sent(ping_seconds, left):
    with served(limits=Limits(ping_seconds=ping_seconds, send_seconds=None, handshake_seconds=None)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            upgrade(raw)
            wait_until(lambda: server.metrics.opened == 1)
            time.sleep(3.0)  # of which the handshake of closing takes two
            assert server.metrics.connections == left


def test_a_port_in_use_is_named():
    with served() as server, pytest.raises(UserError, match=f"port {server.port} of 127.0.0.1 is in use: give another"):
        PolicyServer(FakePolicy(), port=server.port).__enter__()
    with pytest.raises(UserError, match="cannot listen at nowhere.invalid"):
        PolicyServer(FakePolicy(), host="nowhere.invalid", port=0).__enter__()


def test_the_end_of_the_server_reaches_clients_and_leaves_no_thread():
    before = threading.active_count()
    with served() as server:
        agent = RemotePolicy(server.url)
        agent.act(observe())
    with pytest.raises(RuntimeError, match="closed the connection"):
        agent.act(observe())
    with pytest.raises(RuntimeError, match="cannot connect .*rf-agent serve"):
        agent.act(observe())
    wait_until(lambda: threading.active_count() == before)


def test_clients_that_come_misbehave_and_go_leave_nothing_behind():
    """In small what `load.py soak` does for ten minutes."""
    with served() as server, connected(server) as good:
        for _ in range(5):
            for data, _message in BAD.values():
                with connected(server) as bad:
                    ask(bad, data)
            with contextlib.suppress(ConnectionClosed), connect(server.url, compression=None) as dying:
                dying.send(pack(observe()))
                dying.socket.close()
            assert isinstance(ask(good, observe()), dict)
        wait_until(lambda: server.metrics.connections == 1)
