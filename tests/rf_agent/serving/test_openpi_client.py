"""The real `openpi-client` drives our server. `RF_OPENPI_PYTHON` names an interpreter of an environment that has it."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from policy_cases import CORPUS, make_observation, make_policy

from rf_agent.serving.server import PolicyServer

PYTHON = os.environ.get("RF_OPENPI_PYTHON")
SCRIPT = Path(__file__).parents[2] / "fakes" / "openpi_peer.py"
pytestmark = pytest.mark.skipif(not PYTHON, reason="no interpreter with openpi-client (RF_OPENPI_PYTHON)")


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
        command = [PYTHON, SCRIPT, server.port, tmp_path / "given.npz", tmp_path / "found.npz", *([key] if key else [])]
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the observation has no 'rgb_static' or 'observation/image'" in done.stdout
    found = np.load(tmp_path / "found.npz")
    for name, actions in expected.items():
        np.testing.assert_allclose(found[name], actions, atol=1e-5)
