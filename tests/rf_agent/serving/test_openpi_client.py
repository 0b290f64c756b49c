"""The real `openpi-client` drives our server. `RF_OPENPI_PYTHON` names an interpreter of an environment that has it;
`make test-openpi` makes one and runs these tests."""

import os
import socket
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from policy_cases import CORPUS, make_observation, make_policy

from rf_agent.environments import Environments
from rf_agent.evaluation.agents import load_agent, load_policy
from rf_agent.evaluation.episode import play, task_items
from rf_agent.evaluation.runner import make_env
from rf_agent.instructions import instructions
from rf_agent.serving.codec import pack, unpack
from rf_agent.serving.server import PolicyServer

PYTHON = os.environ.get("RF_OPENPI_PYTHON")
SCRIPT = Path(__file__).parents[2] / "fakes" / "openpi_peer.py"
TINY, ENV = "roboflamingo-tiny", "rf/PlayTableD-v0"
TASKS = ["open_drawer", "close_drawer", "turn_on_led", "move_slider_left", "move_slider_right"]
pytestmark = pytest.mark.skipif(not PYTHON, reason="no interpreter with openpi-client (RF_OPENPI_PYTHON)")


def peer(*words):
    """Arguments of `subprocess` that run the peer under its own interpreter, which sees nothing of this one."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {"args": [PYTHON, str(SCRIPT), *map(str, words)], "env": variables}


class LiveAgent:
    """An agent of this process that hands each observation through a pipe to openpi's client."""

    def __init__(self, pipe, render_every):
        self.pipe, self.render_every = pipe, render_every

    def reset(self, env, seed):
        self.first = True

    def act(self, observation):
        message = {
            "observation/image": observation["rgb_static"],
            "observation/wrist_image": observation["rgb_gripper"],
            "observation/state": observation["robot_obs"],
            "prompt": instructions(observation["instruction"], 1)[0],
            "reset": self.first,
        }
        self.first = False
        self.pipe.send_bytes(pack(message))
        assert self.pipe.poll(120), "openpi's client gave no action"
        return np.array(unpack(self.pipe.recv_bytes()))


@pytest.mark.slow
def test_twenty_episodes_of_the_play_table_are_those_of_the_policy_in_the_process():
    pytest.importorskip("pybullet")
    items = task_items(TASKS, 4, seed=0)
    alone, policy = load_agent(TINY), load_policy(TINY)
    with Environments() as environments, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        env = make_env(environments, ENV, alone.render_every)
        expected = [play(env, alone, item) for item in items]
        with (
            PolicyServer(policy, port=0) as server,
            subprocess.Popen(**peer("live", server.port, listener.getsockname()[1]), stderr=subprocess.PIPE) as process,
        ):
            try:
                with Connection(listener.accept()[0].detach()) as pipe:
                    found = [play(env, LiveAgent(pipe, alone.render_every), item) for item in items]
                _, said = process.communicate(timeout=30)
            finally:
                process.kill()
            assert process.returncode == 0, said.decode()[-3000:]
            steps = server.metrics.requests["answered"]
    for ours, theirs in zip(expected, found, strict=True):
        print(f"{ours.key}: {'success' if ours.completed else 'failure'} after {ours.steps} steps; ", end="")
        print(f"with openpi-client {'success' if theirs.completed else 'failure'} after {theirs.steps}")
    # whether each attempt succeeded, after how many steps, and with which instruction
    assert [(e.key, e.attempts, e.steps) for e in found] == [(e.key, e.attempts, e.steps) for e in expected]
    print(f"{sum(e.completed for e in found)} of {len(found)} episodes, {steps} observation steps")
    assert len(found) == 20 and steps > 20 and any(e.completed for e in found)


@pytest.mark.parametrize("key", [None, "s3cret"])
def test_episodes_are_those_of_the_policy_in_the_process(tmp_path, key):
    policy = make_policy(0, "head.proprioception=true")
    given, expected = {}, {}
    for index in range(4):
        text = CORPUS[index % 2]
        episode = [make_observation(10 * index + step, instruction=text) for step in range(7)]
        for ours, theirs in (("rgb_static", "image"), ("rgb_gripper", "wrist_image"), ("robot_obs", "state")):
            given[f"{index}/{theirs}"] = np.stack([observation[ours] for observation in episode])
        given[f"{index}/prompt"] = np.array(text)
        policy.reset()
        expected[f"{index}/actions"] = [policy.act(observation) for observation in episode]
    np.savez(tmp_path / "given.npz", **given)
    with PolicyServer(policy, port=0, api_key=key) as server:
        files = [tmp_path / "given.npz", tmp_path / "found.npz"]
        command = peer("recorded", server.port, *files, *([key] if key else []))
        done = subprocess.run(**command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the observation has no 'rgb_static' or 'observation/image'" in done.stdout
    found = np.load(tmp_path / "found.npz")
    for name, actions in expected.items():
        np.testing.assert_allclose(found[name], actions, atol=1e-5)
