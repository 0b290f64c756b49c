"""RemotePolicy acts as the policy in the process, and says what is wrong."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from bare_clients import wait_until
from fake_policy import FakePolicy, observe
from policy_cases import CORPUS, as_bytes, make_observation, make_policy
from websockets.sync.server import serve

from rf_agent.serving import RemoteError, RemotePolicy
from rf_agent.serving.codec import pack
from rf_agent.serving.server import PolicyServer


def episode(seed, steps=9):
    """Observations whose instruction changes in the middle of a chunk."""
    words = [CORPUS[seed % 3]] * 5 + [as_bytes(CORPUS[(seed + 1) % 3])] * (steps - 5)
    return [make_observation(100 * seed + step, instruction=words[step]) for step in range(steps)]


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("head.repeat=2",),
        ("head.n_action_steps=1", "head.ensemble=0.1"),
        ("head.n_action_steps=1",),
        ("head.proprioception=true",),
        ("head.type=gpt",),
    ],
    ids=" ".join,
)
def test_whole_episodes_are_those_of_the_policy_in_the_process(changes):
    policy = make_policy(0, *changes)
    alone = {}
    for seed in range(3):
        policy.reset()
        alone[seed] = [policy.act(observation) for observation in episode(seed)]
    remote = {}

    def play(first):
        with RemotePolicy(server.url) as agent:
            for seed in (first, (first + 1) % 3):
                agent.reset()
                remote[first, seed] = [agent.act(observation) for observation in episode(seed)]

    with PolicyServer(policy, port=0) as server:
        threads = [threading.Thread(target=play, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert len(remote) == 6
    for (_, seed), actions in remote.items():
        np.testing.assert_allclose(actions, alone[seed], atol=1e-5)


def test_images_travel_at_observation_steps_only():
    policy = FakePolicy(chunk_size=4, n_action_steps=3)
    with PolicyServer(policy, port=0) as server, RemotePolicy(server.url) as agent:
        assert agent.render_every == 3
        actions = [agent.act(observe(step)).tolist() for step in range(7)]
        assert actions == [[1, 0]] * 3 + [[2, 3]] * 3 + [[3, 6]]
        agent.reset()
        assert agent.act(observe(9)).tolist() == [1, 9]
        agent.act(observe(9))[:] = 5  # what a caller does with an action is its own business
        assert agent.act(observe(9)).tolist() == [1, 9]
    assert policy.batches == [1] * 4


def test_what_was_answered_before_the_end_of_a_connection_is_not_carried_out_after_it():
    with PolicyServer(FakePolicy(chunk_size=4, n_action_steps=3), port=0) as server:
        agent = RemotePolicy(server.url)
        assert agent.act(observe(5)).tolist() == [1, 5]
        agent.close()
        assert agent.act(observe(7)).tolist() == [1, 7]  # connected anew, with a history of its own
        agent.close()


def test_who_is_forgotten_gives_the_place_back():
    with PolicyServer(FakePolicy(), port=0) as server:
        for _ in range(3):
            RemotePolicy(server.url).act(observe(1))
        gc.collect()
        wait_until(lambda: server.metrics.connections == 0)


def test_who_connects_anew_reads_what_the_policy_is_now():
    with PolicyServer(FakePolicy(), port=0) as server:
        agent, port = RemotePolicy(server.url), server.port
        agent.act(observe(1))
    with pytest.raises(RuntimeError):
        agent.act(observe(1))

    other = {"back" if key == "front" else key: value for key, value in observe(1).items()}
    with PolicyServer(FakePolicy(views=("back", "wrist")), port=port):
        assert agent.act(other).tolist() == [1, 1]
        agent.close()


def test_an_observation_that_does_not_fit_is_refused_by_the_server():
    with PolicyServer(FakePolicy(), port=0) as server, RemotePolicy(server.url) as agent:
        for bad, message in (
            (observe(front=None), "no 'front'"),
            (observe(instruction=None), "no 'instruction'"),
            (observe(front=np.zeros((2, 2, 3))), "send uint8"),
        ):
            with pytest.raises(RuntimeError, match=message):
                agent.act(bad)
        assert agent.act(observe(1)).tolist() == [1, 1]


def test_what_is_no_observation_is_refused_before_it_is_sent():
    with PolicyServer(FakePolicy(), port=0) as server, RemotePolicy(server.url) as agent:
        with pytest.raises(ValueError, match="of type tuple; give a dictionary .*env.reset"):
            agent.act((observe(), {}))
        with pytest.raises(ValueError, match=r"nothing that the policy reads \(it has image, prompt\): give front"):
            agent.act({"image": np.zeros((2, 2, 3), np.uint8), "prompt": "go"})
        with pytest.raises(RuntimeError, match="it has 'instruction'\\)"):
            agent.act({"instruction": "go"})
        assert agent.act(observe(1)).tolist() == [1, 1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://", "ws://127.0.0.1:99999999"])
def test_a_wrong_address_is_named(url):
    with pytest.raises(RuntimeError, match="give ws://HOST:PORT|cannot connect"):
        RemotePolicy(url)


STANDING_STILL = """
import sys
from fake_policy import FakePolicy
from rf_agent.serving.server import PolicyServer
with PolicyServer(FakePolicy(), port=0) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("ping_seconds", [0.2, None])
def test_pings_find_a_server_that_stands_still_unless_none_are_sent(ping_seconds):
    command = [sys.executable, "-c", STANDING_STILL]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as server:
        try:
            agent = RemotePolicy(f"ws://127.0.0.1:{int(server.stdout.readline())}", ping_seconds=ping_seconds)
            assert agent.act(observe(1)).tolist() == [1, 1]
            server.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            server.send_signal(signal.SIGCONT)
            if ping_seconds is None:
                assert agent.act(observe(2)).tolist() == [2, 2]
            else:
                with pytest.raises(RuntimeError, match="closed the connection"):
                    agent.act(observe(2))
        finally:
            server.kill()


def test_the_client_needs_neither_torch_nor_transformers():
    code = """
import sys
from rf_agent.serving import RemoteError, RemotePolicy
from rf_agent.serving.codec import pack
import rf_agent.serving.server
heavy = {"torch", "transformers", "PIL", "gymnasium", "h5py", "tyro", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("metadata", "answer", "said"),
    [
        ({"protocol": 99}, None, "it speaks version 99 of the protocol, this client 1"),
        ({}, {"actions": np.zeros((0, 7), np.float32)}, "the answer holds 0 actions"),
    ],
)
def test_a_server_that_answers_otherwise_is_refused(metadata, answer, said):
    def handle(connection):
        connection.send(pack({"cameras": {}, "state": None, "n_action_steps": 1} | metadata))
        for _ in connection:
            connection.send(pack(answer))

    with serve(handle, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RemoteError, match=said):
            RemotePolicy(f"ws://127.0.0.1:{server.socket.getsockname()[1]}").act({"instruction": "go"})
