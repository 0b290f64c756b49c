"""`rf-agent serve`: a policy for robots on other machines, in openpi's websocket protocol."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rf_agent.addresses import LOCAL, check_port, others_reach
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Execution, has_network, load_policy, pick_device
from rf_agent.interrupts import sigterm_like_ctrl_c
from rf_agent.names import short_name
from rf_agent.serving.admission import origins
from rf_agent.serving.server import Limits, PolicyServer, check_free


@dataclass(kw_only=True)
class Args:
    """Serve a policy to robots and simulators: openpi's clients and `rf_agent.serving.RemotePolicy` connect."""

    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, or the name of a bundled policy."""
    host: str = "127.0.0.1"
    """Address to listen at: this machine alone, or 0.0.0.0 for the network, then with a key."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, ..."""
    dtype: str = "float32"
    """Number format of the parameters: float32, bfloat16 or float16."""
    compile: bool = False
    """Compile the network; the first answer to every new number of clients then takes up to minutes."""
    n_action_steps: int | None = None
    """Actions of a chunk that clients carry out before they ask again; as in the checkpoint if not given."""
    repeat: int | None = None
    """Times that each is carried out; as in the checkpoint if not given."""
    ensemble: float | None = None
    """Have clients ask at every step, and average the predictions (ACT); as in the checkpoint if not given."""
    api_key_file: Path | None = None
    """File with the key that clients must send; without it all are let in."""
    allow_origin: tuple[str, ...] = ()
    """Web pages, such as https://example.org, whose scripts may connect; others are refused."""
    max_connections: int = 64
    """Clients at once."""
    max_message_mb: int = 16
    """Size of a message in megabytes (2^20 bytes)."""


def run(args: Args) -> None:
    """Serve until Ctrl-C, and say where. What happens to clients is logged on standard error."""
    _check(args)
    key = _read_key(args.api_key_file)
    check_free(args.host, args.port)  # before a large policy is loaded
    execution = Execution(args.n_action_steps, args.repeat, args.ensemble, args.dtype, args.compile)
    policy = load_policy(args.policy, pick_device(args.policy, args.device), execution)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    limits = Limits(message_bytes=args.max_message_mb << 20, connections=args.max_connections)
    server = PolicyServer(
        policy, short_name(args.policy), args.host, args.port, key, args.allow_origin, limits
    )  # a short name: where it lies is nobody's business
    try:
        with sigterm_like_ctrl_c(), _log_to_screen(), server:
            console.print(f"Serving {args.policy} at {server.url}; Ctrl-C ends it.")
            if (address := others_reach(args.host)) is not None:
                console.print(f"Other machines find it at ws://{address}:{server.port}.")
            if key is None and args.host not in LOCAL:
                console.print("Anybody who reaches this address may use the policy: --api-key-file asks for a key.")
            while server.running(timeout=1):
                pass
            raise UserError(f"the server has ended by itself ({_reason(server.error)}): start it again")
    except KeyboardInterrupt:
        console.print("The server has ended.")


def _reason(error: BaseException | None) -> str:
    return (
        "nobody knows why" if error is None else f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    )


def _check(args: Args) -> None:
    if not has_network(args.policy):
        raise UserError(f"--policy is {args.policy!r}, but only checkpoints of this project are served: give one")
    check_port(args.port)
    origins(args.allow_origin)
    for name in ("max_connections", "max_message_mb"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}: give 1 or more")


def _read_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"--api-key-file {file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--api-key-file {file} holds no text: write one line of letters and digits into it") from error
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{file} holds no key: write one line of letters and digits into it")
    return key


@contextlib.contextmanager
def _log_to_screen() -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("rf_agent.serving")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
