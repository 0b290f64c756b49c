"""A policy that serves several environments at once."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from rf_agent import RoboFlamingoPolicy
from rf_agent.evaluation.agents import load_policy
from rf_agent.evaluation.server import PolicyServer, RemoteAgent


class Counter:
    """Acts the number of steps since its environment's start, and remembers how many were asked together."""

    config = SimpleNamespace(head=SimpleNamespace(replan_every=1))

    def __init__(self):
        self.batches = []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        level = observation["level"]
        if (level < 0).any():
            raise ValueError("a negative level was given")
        count = np.zeros(len(level), int) if state is None else state[0]
        count = np.where(episode_start, 0, count) + 1
        self.batches.append(len(level))
        return np.stack([count, level], axis=1), (count,)


def test_environments_keep_their_own_history():
    counter = Counter()
    results = {}

    def play(name, address, length):
        agent = RemoteAgent(address)
        steps = []
        for _ in range(2):
            agent.reset(None, 0)
            steps.append([agent.act({"level": np.array(name)}).tolist() for _ in range(length)])
        results[name] = steps

    with PolicyServer(counter) as address:
        threads = [threading.Thread(target=play, args=(name, address, 5 + name)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    for name in range(4):
        assert results[name] == [[[step, name] for step in range(1, 6 + name)]] * 2
    assert sum(counter.batches) == 2 * sum(5 + name for name in range(4))


def test_an_error_reaches_the_one_who_asked():
    with PolicyServer(Counter()) as address:
        agent = RemoteAgent(address)
        with pytest.raises(RuntimeError, match="negative level"):
            agent.act({"level": np.array(-1)})
        assert agent.act({"level": np.array(3)}).tolist() == [1, 3]


def test_a_served_policy_acts_as_alone():
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["lift the red block", "open it"], seed=0)
    rng = np.random.default_rng(0)

    def look(words):
        text = np.zeros(256, np.uint8)
        text[: len(words)] = list(words.encode())
        static, gripper = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (40, 20))
        return {"rgb_static": static, "rgb_gripper": gripper, "instruction": text}

    episodes = {name: [look(name) for _ in range(7)] for name in ("lift the red block", "open it")}
    alone = {}
    for name, looks in episodes.items():
        policy.reset()
        alone[name] = [policy.act(observation) for observation in looks]
    policy.reset()
    served: dict[str, list[np.ndarray]] = {}

    def play(name, address):
        agent = RemoteAgent(address)
        served[name] = [agent.act(observation) for observation in episodes[name]]

    with PolicyServer(policy) as address:
        threads = [threading.Thread(target=play, args=(name, address)) for name in episodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    for name in episodes:
        np.testing.assert_allclose(served[name], alone[name], atol=1e-5)


def test_the_folder_of_the_socket_goes_with_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with PolicyServer(load_policy("roboflamingo-tiny")) as address:
        assert address.folder is None or list(tmp_path.iterdir()) == [address.folder]
    assert not list(tmp_path.iterdir())
