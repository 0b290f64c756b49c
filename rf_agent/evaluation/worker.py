"""What a process that plays owns, and who acts in it: a copy of the policy, or a server that all processes share."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rf_agent.environments import Environments
from rf_agent.evaluation import custom
from rf_agent.evaluation.agents import (
    AS_TRAINED,
    SCRIPTED,
    Agent,
    Execution,
    checkpoint_bytes,
    fingerprint,
    has_network,
    load_agent,
    load_policy,
)
from rf_agent.serving.client import RemotePolicy
from rf_agent.serving.server import Limits, PolicyServer

RESTARTS = 2
"""How often an episode is played again because its worker died."""
MAX_WORKERS = 10_000
"""Connections that the server of an evaluation lets in: as many as there can be."""
OWN_CLIENTS = Limits(
    message_bytes=1 << 30,
    connections=MAX_WORKERS,
    handshake_seconds=None,
    send_seconds=None,
    ping_seconds=None,
)
"""The server of an evaluation has no clients but its workers. What ends those that hang is the time-out of a step."""
LARGE = 1 << 30
"""Bytes of weights from which on a policy on a CPU is held once, and answers all environments in batches."""


@dataclass(frozen=True)
class Who:
    """Who acts."""

    policy: str
    """What `--policy` takes."""
    device: str = "cpu"
    execution: Execution = AS_TRAINED
    server: tuple[str, str] | None = None
    """Address and key of a server, instead of a policy in the worker."""
    timeout: float | None = None
    """Seconds that an answer of the server may take."""
    weights: str | None = None
    """Their fingerprint: a worker may outlive an evaluation, and the policy be trained on meanwhile."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """What a process that plays owns: its environments, and the agent of its jobs."""

    def __init__(self) -> None:
        self.environments = Environments()
        self._agent: Agent | None = None
        self._who: Who | None = None
        self._remote: RemotePolicy | None = None

    def agent(self, who: Who) -> Agent:
        """The agent of a job; that of the last one is kept."""
        if self._agent is None or self._who != who:
            self._close_remote()
            if who.server is None:
                self._agent = load_agent(who.policy, who.device, who.execution)
            else:
                self._remote = RemotePolicy(*who.server, timeout=who.timeout, ping_seconds=None)
                self._agent = custom.as_agent(self._remote)
            self._who = who
        return self._agent

    def _close_remote(self) -> None:
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    def __exit__(self, *_: object) -> None:
        self._close_remote()
        self.environments.close()


@contextlib.contextmanager
def acting(
    policy: str,
    device: str = "cpu",
    execution: Execution = AS_TRAINED,
    workers: int | None = 1,
    timeout: float | None = None,
    weights: str | None = None,
) -> Iterator[Who]:
    """Who acts in the workers while the block runs: on a GPU, and where the policy is large, a server that holds it
    once and answers all of them in batches; else a copy in each, on one thread.

    Args:
        policy, device, execution: see `rf_agent.evaluation.agents.load_policy`.
        workers: processes of this machine; None where they are on others, which have copies.
        timeout: seconds that an answer of the server may take.
        weights: the policy's fingerprint, where it is known already.
    """
    weights = weights or fingerprint(policy)
    if workers is None and has_network(policy) and Path(policy).is_dir():  # other processes have other present folders
        policy = str(Path(policy).resolve())
    several = workers is not None and workers > 1
    large = several and has_network(policy) and checkpoint_bytes(policy) >= LARGE
    serve = workers is not None and has_network(policy) and (device != "cpu" or large)
    with _served(policy, device, execution) if serve else one_thread(policy) as server:
        yield Who(policy, device, execution, server, timeout, weights)


@contextlib.contextmanager
def _served(policy: str, device: str, execution: Execution) -> Iterator[tuple[str, str]]:
    """A server for the workers alone: on a free port of this machine, with a key that only they are told."""
    key = secrets.token_urlsafe(32)
    loaded = load_policy(policy, device, execution, keep=False)
    with PolicyServer(loaded, port=0, api_key=key, limits=OWN_CLIENTS) as server:
        yield server.url, key


@contextlib.contextmanager
def one_thread(policy: str) -> Iterator[None]:
    """Sums over several threads round differently, so a policy in this process has one, as in the workers."""
    if policy in SCRIPTED:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
