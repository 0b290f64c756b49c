"""The pool of worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rf_agent.environments import Environments
from rf_agent.workers import run_jobs

ROOT = Path(__file__).parents[2]


def square(environments, job):
    return job * job


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_answered(workers):
    assert dict(run_jobs(square, range(7), workers, Environments)) == {n: n * n for n in range(7)}


class Folder:
    """A resource that leaves something behind unless it is closed."""

    def __enter__(self):
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        return self.folder

    def __exit__(self, *_):
        self.folder.rmdir()


SCRIPT = """
import os, time
from rf_agent.workers import run_jobs
from test_workers import Folder

def wait(folder, job):
    print(os.getpid(), flush=True)
    time.sleep(600 if job else 0)

if __name__ == "__main__":
    for _ in run_jobs(wait, range(9), 2, Folder):
        pass
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split(")")[-1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed_and_leave_nothing_behind(tmp_path):
    script, temporary = tmp_path / "script.py", tmp_path / "tmp"
    script.write_text(SCRIPT)
    temporary.mkdir()
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = {int(parent.stdout.readline()) for _ in range(3)}  # one of them answered and took a second job
    assert len(workers) == 2 and all(map(alive, workers)) and len(list(temporary.iterdir())) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    assert not list(temporary.iterdir())
