"""How fast the play page is, on its own server. Run by hand from the top of the repository:

    python tests/rf_agent/play/measure.py --policy roboflamingo-tiny --seconds 20

It starts `rf-agent play`, speaks to it as the page does, and prints: the seconds from the command to the address, to
the first frame and to a policy that is ready; the milliseconds from an instruction to the table's first word and to the
first frame in which the robot has moved; steps and frames a second while the policy acts; and how busy the machine was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import time

from websockets.sync.client import connect

INSTRUCTIONS = ("open the drawer", "push the red block to the left", "turn on the led", "move the door to the left")
FREE_TEXT = "wave at me"
"""Nothing ends it before its time is up."""


class Page:
    """The page's end of the WebSocket, and what it has seen and heard last."""

    def __init__(self, socket):
        self.socket = socket
        self.state, self.view, self.frames = {}, b"", 0

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def hear(self, timeout):
        """The next message: "frame", or a message of the table; None if there is none in time."""
        try:
            data = self.socket.recv(timeout)
        except TimeoutError:
            return None
        if isinstance(data, bytes):
            size = struct.unpack_from(">BI", data)[1]
            self.view, self.frames = data[5 : 5 + size], self.frames + 1  # of the static camera, which does not move
            return "frame"
        message = json.loads(data)
        if message["type"] == "state":
            self.state = message
        elif message["type"] in ("fatal", "ended", "full", "refused"):
            sys.exit(message["text"])
        return message

    def hear_until(self, fits, timeout=120.0):
        """Wait for a message that fits; returns the clock at that moment."""
        end = time.perf_counter() + timeout
        while time.perf_counter() < end:
            message = self.hear(1)
            if message is not None and fits(message):
                return time.perf_counter()
        sys.exit("what was waited for did not come")

    def rest(self):
        """Stop, and wait until nothing moves any more."""
        self.send(do="stop")
        while self.hear(0.4) is not None:
            pass


def latency(page, trials):
    """Milliseconds to the first message, and to the first frame that differs, for each instruction."""
    words, frames = [], []
    for trial in range(trials):
        page.rest()
        before, begun = page.view, time.perf_counter()
        page.send(do="ask", instruction=INSTRUCTIONS[trial % len(INSTRUCTIONS)])
        first = page.hear_until(lambda message: True)
        moved = page.hear_until(lambda message: message == "frame" and page.view != before)  # noqa: B023
        words.append(1000 * (first - begun))
        frames.append(1000 * (moved - begun))
    page.rest()
    return words, frames


def pace(page, seconds):
    """Steps a second as the table says, as counted, and frames a second."""
    rates, steps, last = [], 0, (0, 0)
    page.send(do="speed", factor=1)
    page.send(do="ask", instruction=FREE_TEXT)
    page.hear_until(lambda message: message == "frame")
    begun, frames = time.perf_counter(), page.frames
    while time.perf_counter() - begun < seconds:
        message = page.hear(1)
        if message is None or message == "frame" or message["type"] not in ("state", "asked"):
            continue
        asked = message.get("asked") if message["type"] == "state" else message
        if not asked:
            continue
        now = asked["number"], asked["steps"]
        steps += now[1] - last[1] if now[0] == last[0] else now[1]
        last = now
        if message["type"] == "asked" and asked["outcome"] not in ("running", "stopped"):
            page.send(do="ask", instruction=FREE_TEXT)
        elif message["type"] == "state" and asked["outcome"] == "running" and asked["steps"] > 30:
            rates.append(message["rate"])
    passed = time.perf_counter() - begun
    page.rest()
    return statistics.median(rates), steps / passed, (page.frames - frames) / passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="roboflamingo-tiny", help="one with a network; the expert refuses words")
    parser.add_argument("--env", default="rf/PlayTableD-v0")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    begun = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "rf_agent.cli", "play", "--port", "0", "--policy", args.policy, "--env", args.env],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        if not found:
            sys.exit("the server did not start")
        print(f"address {time.perf_counter() - begun:.2f} s after the command", flush=True)
        url = found[0].replace("http", "ws") + "/table"
        with connect(url, origin=found[0], compression=None, max_size=None) as socket:
            report(Page(socket), begun, args)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    print(f"load before {load:.2f}, after {os.getloadavg()[0]:.2f}, on {os.cpu_count()} cores")


def report(page, begun, args):
    shown = page.hear_until(lambda message: message == "frame")
    print(f"first frame {shown - begun:.2f} s after it", flush=True)
    ready = page.hear_until(lambda message: message != "frame" and page.state and not page.state["loading"])
    print(f"policy ready {ready - begun:.2f} s after it", flush=True)
    words, frames = latency(page, args.trials)
    for name, values in (("first message", words), ("first frame in which the robot has moved", frames)):
        middle, slowest = statistics.median(values), max(values)
        print(f"{name}: median {middle:.0f} ms after the instruction, slowest {slowest:.0f} ms", flush=True)
    rate, steps, shown = pace(page, args.seconds)
    print(f"{args.policy} at speed 1: {rate:.1f} steps a second by the table's state, {steps:.1f} counted")
    print(f"{shown:.1f} frames a second")


if __name__ == "__main__":
    main()
