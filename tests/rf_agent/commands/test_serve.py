"""`rf-agent serve` as a program: it says where it listens, ends cleanly, and says what is wrong."""

import os
import re
import signal
import subprocess
import sys

import pytest
from policy_cases import make_observation, make_policy

from rf_agent.cli import main
from rf_agent.serving import RemotePolicy


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "expert"], "only checkpoints of this project are served"),
        (["--port", "70000"], "--port is 70000: give 0 to 65535"),
        (["--max-connections", "0"], "--max-connections is 0: give 1 or more"),
        (["--api-key-file", "EMPTY"], "holds no key"),
        (["--host", "nowhere.invalid"], "cannot listen at nowhere.invalid"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, capsys, words, message):
    (tmp_path / "empty").touch()
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["serve", "--device", "cpu", *words])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
