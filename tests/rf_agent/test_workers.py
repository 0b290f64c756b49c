"""The pool of worker processes: who owns what, and that nothing outlives a parent that was killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from rf_agent.environments import Environments
from rf_agent.workers import run_jobs

SLOW = """
import os, sys, tempfile, time
from contextlib import nullcontext
from pathlib import Path
from rf_agent.workers import run_jobs

def work(owned, job):
    folder = tempfile.mkdtemp()
    Path(sys.argv[1], str(os.getpid())).touch()
    while True:  # keeps making files
        time.sleep(0.001)
        Path(folder, str(time.time())).touch()

if __name__ == "__main__":
    for _ in run_jobs(work, range(4), 2, nullcontext):
        pass
"""


def alive(process):
    """Whether a process runs; one that has ended but that nobody has waited for yet does not."""
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.exists("/proc/self/stat")  # no Linux: os.kill found it


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_workers_end_with_a_parent_that_was_killed_and_leave_no_files(tmp_path):
    script, started, scratch = tmp_path / "slow.py", tmp_path / "started", tmp_path / "tmp"
    script.write_text(SLOW)
    started.mkdir()
    scratch.mkdir()
    command = [sys.executable, str(script), str(started)]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}) as parent:
        try:
            assert wait_until(lambda: len(list(started.iterdir())) == 2)
            assert len(list(scratch.iterdir())) == 1  # that of the workers
        finally:
            parent.kill()
    workers = [int(path.name) for path in started.iterdir()]
    try:
        assert wait_until(lambda: not any(map(alive, workers)), 10.0)
        assert not list(scratch.iterdir())
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


class Opened:
    """Tells what happened to it."""

    def __init__(self):
        self.events = []

    def __enter__(self):
        self.events.append("open")
        return self

    def __exit__(self, *_):
        self.events.append("closed")


def note(owned, job):
    owned.events.append(job)
    return os.getpid(), list(owned.events)


def test_one_worker_is_this_process_and_closes_what_it_opened():
    made = []

    def make():
        made.append(Opened())
        return made[-1]

    assert [result for _, result in run_jobs(note, "ab", 1, make)] == [
        (os.getpid(), ["open", "a"]),
        (os.getpid(), ["open", "a", "b"]),
    ]
    assert [opened.events for opened in made] == [["open", "a", "b", "closed"]]


def test_every_worker_process_opens_one_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    results = [result for _, result in run_jobs(note, range(6), 2, Opened)]
    assert os.getpid() not in {process for process, _ in results}
    assert all(events.count("open") == 1 for _, events in results)
    assert not list(tmp_path.iterdir())


class Unreadable(Exception):
    """Pickled, it cannot be read back: it is made of two arguments, and keeps one."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def fail(_, job):
    raise Unreadable(3, f"no {job}") if job == "b" else KeyError(job)


@pytest.mark.parametrize(("job", "kind", "said"), [("b", RuntimeError, "Unreadable: 3: no b"), ("a", KeyError, "'a'")])
def test_errors_come_back_as_they_are_or_in_words(job, kind, said):
    restarted = []
    with pytest.raises(kind, match=said):
        list(run_jobs(fail, job, 1, Opened, restarts=2, on_restart=restarted.append))
    assert not restarted


def test_an_owner_keeps_an_environment_until_it_closes():
    with Environments() as environments, Environments() as others:
        env = environments.get("fake_env:fake/Task-v0")
        assert environments.get("fake_env:fake/Task-v0") is env
        assert environments.get("fake_env:fake/Task-v0", max_steps=3) is not env
        assert others.get("fake_env:fake/Task-v0") is not env
        environments.close()
        assert environments.get("fake_env:fake/Task-v0") is not env


def test_an_unknown_environment_is_named():
    with Environments() as environments, pytest.raises(ValueError, match="cannot make the environment 'rf/Nope-v0'"):
        environments.get("rf/Nope-v0")


UNEVEN = """
import os, sys, time
from contextlib import nullcontext
from pathlib import Path
import torch
from rf_agent.workers import run_jobs

def work(owned, job):
    Path(sys.argv[1], f"{job}-{os.getpid()}").touch()
    time.sleep(60 if job else 0)
    return torch.get_num_threads()

if __name__ == "__main__":
    for job, threads in run_jobs(work, range(8), 2, nullcontext):
        print(threads, flush=True)
        raise KeyboardInterrupt
"""


def test_a_caller_that_stops_ends_its_workers_at_once(tmp_path):
    script, started = tmp_path / "uneven.py", tmp_path / "started"
    script.write_text(UNEVEN)
    started.mkdir()
    begun = time.monotonic()
    result = subprocess.run(
        [sys.executable, str(script), str(started)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "KeyboardInterrupt" in result.stderr and time.monotonic() - begun < 45
    assert result.stdout == "1\n"  # although the script imports torch before a worker can set OMP_NUM_THREADS
    names = [path.name.split("-") for path in started.iterdir()]
    assert len(names) <= 3  # what waited in line was not begun
    assert not any(alive(int(process)) for _, process in names)
