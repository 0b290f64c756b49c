"""How fast the server answers, and whether it leaks. Run by hand against `rf-agent serve`.

    python tests/rf_agent/serving/load.py latency ws://127.0.0.1:8000 --clients 16 --requests 100
    python tests/rf_agent/serving/load.py soak --minutes 10        (starts a server of its own)

`latency` prints the percentiles of a request as a client sees it, and of what the server adds to the policy and the
network. `soak` has eight clients that connect, send garbage, die and return, beside one that checks its answers. It
fails where an answer is wrong, lost or late, a connection stays open, or the memory of the server's process grows.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rf_agent.serving import RemotePolicy
from rf_agent.serving.codec import pack, unpack

SIDES = {"rgb_static": 200, "rgb_gripper": 84}


def observe(metadata, rng, level=0):
    message = {
        view: rng.integers(0, 256, (SIDES.get(view, 224),) * 2 + (3,), dtype=np.uint8) for view in metadata["cameras"]
    }
    if metadata["state"]:
        message[metadata["state"]["key"]] = np.full(metadata["state"]["dim"], level, np.float32)
    return message | {"instruction": "open the drawer"}


def latency(url, clients, requests):
    taken, added, crossed = [], [], []
    start = threading.Barrier(clients)

    def play(index):
        rng = np.random.default_rng(index)
        with connect(url, compression=None, max_size=None) as connection:
            metadata = unpack(connection.recv())
            observation, before = observe(metadata, rng), None
            for step in range(requests + 3):
                if step == 3:  # the first ones load what is loaded once
                    start.wait()
                begun = time.perf_counter()
                connection.send(pack(observation))
                answer = unpack(connection.recv())
                seconds = time.perf_counter() - begun
                if answer["actions"].shape != (metadata["chunk_size"], metadata["action_dim"]):
                    crossed.append(index)
                timing = answer["server_timing"]
                if step >= 3:
                    taken.append((seconds, timing["infer_ms"] / 1000))
                if step >= 4:  # what the server says of the request before
                    added.append(timing["prev_total_ms"] - before)
                before = timing["infer_ms"]

    threads = [threading.Thread(target=play, args=(index,)) for index in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begun
    assert len(taken) == clients * requests and not crossed, "answers were lost"
    whole, policy = np.array(taken).T * 1000
    print(f"{clients} clients, {len(taken)} requests, {len(taken) / passed:.0f} a second, no answer lost")
    rows = (("request", whole), ("policy", policy), ("waiting and server", added), ("all but policy", whole - policy))
    for name, values in rows:
        print(f"{name:>18}: p50 {np.percentile(values, 50):.2f} ms, p95 {np.percentile(values, 95):.2f} ms")


SERVER = """
import sys
from fake_policy import FakePolicy
from rf_agent.serving.server import PolicyServer, Limits, free_memory
with PolicyServer(FakePolicy(), port=0, limits=Limits(ping_seconds=2, handshake_seconds=2)) as server:
    print(server.port, flush=True)
    for _ in sys.stdin:
        free_memory()
        print(flush=True)
"""
"""Hands back what it does not need for every line of its input, as it does now and then by itself."""
TESTS = Path(__file__).parents[2]
ANSWER_SECONDS = 30
"""That a client waits: what takes longer has been lost."""
LEAVE_SECONDS = 15
"""Until the server has found out that a client has gone."""
MOST_GROWTH = 0.05
"""Of the server's memory, from the first third of the time to the last."""


def memory(process):
    """Megabytes that the server needs: what the C library keeps of messages that have gone is another 20 to 60."""
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline(), "the server has ended"
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def good_observation(level):
    image = np.zeros((200, 200, 3), np.uint8)
    return {"front": image, "wrist": image, "state": np.array([level, 0], np.float32), "instruction": "go"}


class Clients:
    """What a client may do to the server at `port`. Each raises an AssertionError where the server is at fault."""

    def __init__(self, port):
        self.port, self.url = port, f"ws://127.0.0.1:{port}"

    def connect(self):
        return connect(self.url, compression=None, max_size=None, open_timeout=ANSWER_SECONDS, close_timeout=1)

    def well(self, rng):
        level = rng.randrange(600)  # `FakePolicy` fails at 666
        with RemotePolicy(self.url, timeout=ANSWER_SECONDS) as agent:
            for step in range(5):
                found = agent.act(good_observation(level)).tolist()
                assert found == [step + 1, level], f"the answer {found} to step {step + 1}, {level}"

    def refused(self, data):
        """What is sent is answered by a sentence, and the end."""
        with self.connect() as connection:
            connection.recv(ANSWER_SECONDS)
            connection.send(data)
            answer = connection.recv(ANSWER_SECONDS)
            assert isinstance(answer, str) and answer, f"{answer!r} to what is no observation"

    def garbage(self, rng):
        self.refused(rng.randbytes(rng.randrange(1, 100_000)))

    def half(self, rng):
        data = pack(good_observation(1))
        self.refused(data[: rng.randrange(len(data))])

    def dies(self, rng):
        with self.connect() as connection:
            connection.send(pack(good_observation(1)))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()

    def large(self, rng):
        with self.connect() as connection:
            connection.send([b"\0" * (1 << 20)] * 17)
            connection.recv(ANSWER_SECONDS)  # the metadata, if it came before the end
            connection.recv(ANSWER_SECONDS)
            raise AssertionError("a message over the limit was answered")

    def no_http(self, rng):
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS) as raw:
            raw.sendall(rng.randbytes(1000))
            raw.settimeout(ANSWER_SECONDS)
            raw.recv(100)

    def leaves(self, rng):
        with self.connect() as connection:
            connection.recv(ANSWER_SECONDS)


def misbehave(clients, seed, over, done, errors):
    """One client after another until the time is `over`. All but `well` may be cut off, none may be kept waiting."""
    rng = random.Random(seed)
    kinds = (clients.well, clients.garbage, clients.half, clients.dies, clients.large, clients.no_http, clients.leaves)
    while not over.is_set():
        kind = rng.choice(kinds)
        try:
            kind(rng)
        except BaseException as error:
            cut_off = isinstance(error, ConnectionClosed | OSError) and not isinstance(error, TimeoutError)
            if not cut_off or kind == clients.well:
                errors.append(error)  # the main thread raises it
        if errors:
            return
        done[kind.__name__] += 1
        over.wait(rng.random() * 0.2)


def wait_for_connections(url, wanted):
    """The open connections, once they are as many as `wanted` or the time is over."""
    end = time.monotonic() + LEAVE_SECONDS
    while True:
        text = urllib.request.urlopen(url.replace("ws", "http") + "/metrics").read().decode()
        found = int(re.search(r"^rf_connections (\d+)", text, re.M)[1])
        if found == wanted or time.monotonic() > end:
            return found
        time.sleep(0.2)


def soak(minutes, clients=8, most_growth=MOST_GROWTH, server=SERVER):
    """Let them loose on a server.

    Args:
        most_growth: share by which the server's memory may grow; infinite for runs too short to tell.
        server: its program, which prints the port and ends with its input; see `SERVER`.

    Raises:
        AssertionError, or what a client ran into: the server is at fault.
    """
    paths = [TESTS.parent, TESTS.parent / "envs", TESTS / "fakes"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", server]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables
    )
    try:
        _soak(process, Clients(int(process.stdout.readline())), minutes, clients, most_growth)
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            process.kill()


def _soak(process, clients, minutes, count, most_growth):
    over, done, errors = threading.Event(), Counter(), []
    threads = [
        threading.Thread(target=misbehave, args=(clients, seed, over, done, errors), daemon=True)
        for seed in range(count)
    ]
    print(f"at first: {memory(process):.1f} MB", flush=True)
    steady, slowest, steps, figures = RemotePolicy(clients.url, timeout=ANSWER_SECONDS), 0.0, 0, []
    begun = time.monotonic()
    end = begun + 60 * minutes
    every = min(2.0, minutes)  # at least sixty figures
    figure_at = begun + min(10.0, 6 * minutes)
    for thread in threads:
        thread.start()
    try:
        while time.monotonic() < end and not errors:
            asked = time.monotonic()
            steps += 1
            found = steady.act(good_observation(5)).tolist()
            assert found == [steps, 5], f"the steady client got {found} at step {steps}"
            slowest = max(slowest, time.monotonic() - asked)
            if time.monotonic() > figure_at:
                figures.append(memory(process))
                figure_at += every
                print(f"{(end - time.monotonic()) / 60:5.1f} min left, {figures[-1]:.1f} MB, {steps} steps", flush=True)
            time.sleep(0.05)
    finally:
        over.set()
    for thread in threads:
        thread.join(2 * ANSWER_SECONDS)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a client was kept waiting"
    left = wait_for_connections(clients.url, 1)
    third = max(1, len(figures) // 3)
    early, late = min(figures[:third]), min(figures[-third:])  # between the large messages, which come and go
    print(f"what the clients did: {dict(done)}; the steady one: {steps} steps, the slowest {slowest * 1000:.0f} ms")
    print(f"memory: at least {early:.1f} MB in the first third, {late:.1f} MB in the last: {late / early - 1:+.1%}")
    print(f"most: {max(figures):.1f} MB; when all have gone: {memory(process):.1f} MB")
    assert left == 1, f"{left} connections are open, but only the steady client is there"
    assert late <= early * (1 + most_growth), f"the memory has grown by more than {most_growth:.0%}"
    steady.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    words = commands.add_parser("latency")
    words.add_argument("url")
    words.add_argument("--clients", type=int, default=16)
    words.add_argument("--requests", type=int, default=100)
    words = commands.add_parser("soak")
    words.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    if args.command == "latency":
        latency(args.url, args.clients, args.requests)
    else:
        logging.getLogger("websockets.client").setLevel(logging.CRITICAL)  # what clients that die say of themselves
        soak(args.minutes)  # an error of it is the exit code 1


if __name__ == "__main__":
    main()
