"""A short soak of the server, and that a soak fails where the server is at fault."""

import math
import sys

import pytest
from serving import load

SECONDS = 4

BROKEN = """
import sys
from fake_policy import FakePolicy
from rf_agent.serving.server import PolicyServer, Limits, free_memory

class Policy(FakePolicy):
    calls, kept = 0, []

    def predict_steps(self, *arguments):
        actions, state = super().predict_steps(*arguments)
        Policy.calls += 1
        {fault}
        return actions, state

class Server(PolicyServer):
    async def _handle(self, connection):
        await super()._handle(connection)
        {leak}

with Server(Policy(), port=0, limits=Limits(ping_seconds=2, handshake_seconds=2)) as server:
    print(server.port, flush=True)
    for _ in sys.stdin:
        free_memory()
        print(flush=True)
"""

FAULTS = {
    "the steady client got|the answer": ("actions = actions + (self.calls > 20)", "pass"),
    "client is there": ("pass", "self.metrics.connections = max(self.metrics.connections, 3)"),
    "memory has grown by more than 5%": ("self.kept.append(bytearray(1 << 19))", "pass"),
    "enough is enough": ("if self.calls > 20: raise ValueError('enough is enough')", "pass"),
    "did not answer within 1 s": ("if self.calls > 20: import time; time.sleep(3)", "pass"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]


def test_a_server_withstands_clients_that_misbehave(capsys):
    load.soak(SECONDS / 60, most_growth=math.inf)
    said = capsys.readouterr().out
    assert "'well'" in said and "'garbage'" in said and "'large'" in said


@pytest.mark.parametrize("said", FAULTS)
def test_a_soak_fails_where_the_server_is_at_fault(said, monkeypatch):
    if "1 s" in said:
        monkeypatch.setattr(load, "ANSWER_SECONDS", 1)
    if "is there" in said:
        monkeypatch.setattr(load, "LEAVE_SECONDS", 1)
    fault, leak = FAULTS[said]
    growth = load.MOST_GROWTH if "memory" in said else math.inf
    with pytest.raises((AssertionError, RuntimeError), match=said):
        load.soak(SECONDS / 60, most_growth=growth, server=BROKEN.format(fault=fault, leak=leak))


def test_an_error_of_the_soak_is_the_exit_code(monkeypatch):
    def fail(minutes):
        raise AssertionError("the server is at fault")

    monkeypatch.setattr(load, "soak", fail)
    monkeypatch.setattr(sys, "argv", ["load.py", "soak"])
    with pytest.raises(AssertionError, match="at fault"):
        load.main()
