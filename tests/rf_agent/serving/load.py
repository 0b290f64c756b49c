"""How fast the server answers, and whether it leaks. Run by hand against `rf-agent serve`.

    python tests/rf_agent/serving/load.py latency ws://127.0.0.1:8000 --clients 16 --requests 100
    python tests/rf_agent/serving/load.py soak --minutes 10        (starts a server of its own)

`latency` prints the percentiles of a request as a client sees it, and of what the server adds to the policy and the
network. `soak` has eight clients that connect, send garbage, die and return, beside one that checks its answers, and
prints the memory of the server's process.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

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
from rf_agent.serving.server import PolicyServer, Limits
with PolicyServer(FakePolicy(), port=0, limits=Limits(ping_seconds=2, handshake_seconds=2)) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def memory(process):
    with open(f"/proc/{process}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def soak(minutes, clients=8):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    port = int(server.stdout.readline())
    url, end = f"ws://127.0.0.1:{port}", time.monotonic() + 60 * minutes
    done: dict[str, int] = {}
    image = np.zeros((200, 200, 3), np.uint8)

    def good_observation(level):
        return {"front": image, "wrist": image, "state": np.array([level, 0], np.float32), "instruction": "go"}

    def count(kind):
        done[kind] = done.get(kind, 0) + 1

    def misbehave(seed):
        rng = random.Random(seed)
        kinds = (well, garbage, half, dies, large, no_http, leaves)
        while time.monotonic() < end:
            kind = rng.choice(kinds)
            try:
                kind(rng)
            except (ConnectionClosed, OSError):
                pass
            count(kind.__name__)
            time.sleep(rng.random() * 0.2)

    def open_connection():
        return connect(url, compression=None, max_size=None, close_timeout=1)

    def well(rng):
        level = rng.randrange(1000)
        with RemotePolicy(url) as agent:
            for step in range(5):
                assert agent.act(good_observation(level)).tolist() == [step + 1, level], "an answer was crossed"

    def garbage(rng):
        with open_connection() as connection:
            connection.recv(10)
            connection.send(rng.randbytes(rng.randrange(1, 100_000)))
            connection.recv(10)

    def half(rng):
        data = pack(good_observation(1))
        with open_connection() as connection:
            connection.send(data[: rng.randrange(len(data))])
            connection.recv(10)

    def dies(rng):
        with open_connection() as connection:
            connection.send(pack(good_observation(1)))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()

    def large(rng):
        with open_connection() as connection:
            connection.send([b"\0" * (1 << 20)] * 65)
            connection.recv(10)

    def no_http(rng):
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.sendall(rng.randbytes(1000))
            raw.settimeout(10)
            raw.recv(100)

    def leaves(rng):
        with open_connection() as connection:
            connection.recv(10)

    threads = [threading.Thread(target=misbehave, args=(seed,)) for seed in range(clients)]
    print(f"at first: {memory(server.pid):.1f} MB", flush=True)
    steady, slowest, steps, figures = RemotePolicy(url), 0.0, 0, []
    for thread in threads:
        thread.start()
    next_figure = time.monotonic() + 10
    while time.monotonic() < end:
        begun = time.monotonic()
        steps += 1
        assert steady.act(good_observation(5)).tolist() == [steps, 5], "the steady client was disturbed"
        slowest = max(slowest, time.monotonic() - begun)
        if time.monotonic() > next_figure:
            figures.append(memory(server.pid))
            next_figure += 2
            print(f"{(end - time.monotonic()) / 60:5.1f} min left, {figures[-1]:.1f} MB, {steps} steps", flush=True)
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    time.sleep(12)
    text = urllib.request.urlopen(url.replace("ws", "http") + "/metrics").read().decode()
    print(f"what the clients did: {done}; the steady one: {steps} steps, the slowest {slowest * 1000:.0f} ms")
    print(re.search(r"^rf_connections \d+", text, re.M)[0], "(the steady client)")
    third = max(1, len(figures) // 3)
    early, late = min(figures[:third]), min(figures[-third:])  # between the large messages, which come and go
    print(f"least memory: {early:.1f} MB in the first third, {late:.1f} MB in the last: {late / early - 1:+.1%}")
    print(f"most: {max(figures):.1f} MB; when all have gone: {memory(server.pid):.1f} MB")
    server.stdin.close()
    server.wait(20)


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
        soak(args.minutes)


if __name__ == "__main__":
    main()
