"""`rf-agent serve` as a program: it says where it listens, ends cleanly, and says what is wrong."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from fake_policy import FakePolicy, observe
from policy_cases import make_observation, make_policy

from rf_agent.cli import main
from rf_agent.commands import serve
from rf_agent.serving import RemotePolicy
from rf_agent.serving.server import Limits, PolicyServer


def test_the_limits_of_the_command_are_those_of_the_server():
    args, limits = serve.Args(), Limits()
    assert (args.max_message_mb << 20, args.max_connections) == (limits.message_bytes, limits.connections)
    assert args.max_message_mb == 16  # two images of 1920 x 1080 are 12


@pytest.fixture
def interruptible():
    """Started processes heed Ctrl-C, also where the tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_ctrl_c(tmp_path, end):
    make_policy().save_pretrained(tmp_path / "mine")
    (tmp_path / "key").write_text("s3cret\n")
    words = [
        "serve",
        "--policy",
        tmp_path / "mine",
        "--port",
        "0",
        "--device",
        "cpu",
        "--api-key-file",
        tmp_path / "key",
    ]
    command = [sys.executable, "-m", "rf_agent.cli", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            said = process.stdout.readline()
            url = re.search(r"ws://\S+:\d+", said)[0]
            with RemotePolicy(url, "s3cret") as policy:
                assert policy.metadata["policy"] == "mine"
                assert policy.act(make_observation(0)).shape == (7,)
            with pytest.raises(RuntimeError, match="key is missing"):
                RemotePolicy(url)
            process.send_signal(end)
            out, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and "The server has ended." in out
    assert "connected" in log and "was not let in: the key is missing" in log and "Traceback" not in log
    assert "s3cret" not in out + log


class _Ends(FakePolicy):
    def predict_steps(self, observation, state=None, episode_start=None):
        raise SystemExit("enough")


@pytest.mark.parametrize("what", ["policy", "server"])
def test_a_server_that_ends_by_itself_says_why_and_the_command_fails(capsys, monkeypatch, what):
    servers = []

    class Watched(PolicyServer):
        def __enter__(self):
            servers.append(super().__enter__())
            return self

        async def _tidy(self):
            if what == "server":
                await asyncio.sleep(0.5)
                raise OSError("the network has gone")
            await super()._tidy()

    monkeypatch.setattr(serve, "PolicyServer", Watched)
    monkeypatch.setattr(serve, "load_policy", lambda *_: _Ends())
    code = []

    def run():
        with pytest.raises(SystemExit) as stop:
            main(["serve", "--device", "cpu", "--port", "0"])
        code.append(stop.value.code)

    thread = threading.Thread(target=run)
    thread.start()
    if what == "policy":
        while not servers:
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="the policy has ended .SystemExit: enough"):
            RemotePolicy(servers[0].url).act(observe())
    thread.join(timeout=30)
    reason = "SystemExit: enough" if what == "policy" else "OSError: the network has gone"
    assert code == [1]
    assert not logging.getLogger("rf_agent.serving").handlers  # a program that goes on logs as before
    assert f"the server has ended by itself ({reason}): start it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "expert"], "only checkpoints of this project are served"),
        (["--port", "70000"], "--port is 70000: give 0 to 65535"),
        (["--max-connections", "0"], "--max-connections is 0: give 1 or more"),
        (["--api-key-file", "EMPTY"], "holds no key"),
        (["--api-key-file", "nowhere"], "--api-key-file nowhere cannot be read: No such file"),
        (["--api-key-file", "."], "--api-key-file . cannot be read: Is a directory"),
        (["--api-key-file", "BINARY"], "binary holds no text"),
        (["--host", "nowhere.invalid"], "cannot listen at nowhere.invalid"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, capsys, words, message):
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    words = [str(tmp_path / word.lower()) if word in ("EMPTY", "BINARY") else word for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["serve", "--device", "cpu", *words])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_named_before_the_policy_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr("rf_agent.commands.serve.load_policy", lambda *args: pytest.fail("it was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            main(["serve", "--device", "cpu", "--port", str(port)])
    assert f"port {port} of 127.0.0.1 is in use: give another --port" in capsys.readouterr().err
