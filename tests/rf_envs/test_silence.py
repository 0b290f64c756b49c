"""PyBullet's chatter is kept away, and nothing else."""

import os
import subprocess
import sys
import threading

import pytest

pytest.importorskip("pybullet")


def test_what_threads_silence_at_a_time_is_heard_again():
    from rf_envs.simulators.playtable.bullet import silence

    inside, leave = threading.Barrier(2), threading.Event()

    def second():
        with silence():
            inside.wait(10)
            leave.wait(10)

    before = os.fstat(1), os.fstat(2)
    other = threading.Thread(target=second)
    with silence():
        other.start()
        inside.wait(10)
        assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev
    assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev  # the other one is not done
    leave.set()
    other.join(10)
    assert (os.fstat(1), os.fstat(2)) == before


def test_environments_that_threads_make_leave_the_terminal_alone():
    script = """
import threading, gymnasium as gym, rf_envs

def play():
    env = gym.make("rf/PlayTableD-v0", max_episode_steps=2)
    env.reset(seed=0)
    env.close()

threads = [threading.Thread(target=play) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("heard")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "heard\n" and not run.stderr
