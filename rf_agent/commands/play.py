"""`rf-agent play`: a table in the browser."""

from __future__ import annotations

import logging
import socket
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rf_agent.errors import UserError, require
from rf_agent.evaluation.options import parse_options

INSTALL = "'roboflamingo-agent[play]'"


@dataclass(kw_only=True)
class Args:
    """Serve a page with a table: type an instruction, watch the robot do it, drive it by hand, record both."""

    env: str = "rf/PlayTableD-v0"
    """Environment of single tasks; the page offers its scenes and the benchmark's chains."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, see `rf-agent rollout`."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, the name of a bundled policy, `expert`, `random`, or `package.module:factory`."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets everybody in your network play and record."""
    port: int = 8080
    """Port to listen at; 0 takes a free one."""
    tables: int = 4
    """Tabs that may be open at a time; each has a table, a process of its own."""
    recordings: Path = Path("recordings")
    """Folder of the videos and demonstrations that are recorded."""
    device: str = "cpu"
    """Where the policy computes: auto, cpu, cuda, ..."""
    open: bool = False
    """Open the page in a browser."""


def run(args: Args) -> None:
    """Serve until Ctrl-C."""
    for module in ("starlette", "uvicorn", "websockets"):
        require(module, "the play page", INSTALL)
    from rf_agent.play.table import TableSettings
    from rf_agent.play.tables import Tables

    _check_policy(args.policy)
    listener = _listen(args.host, args.port)
    settings = TableSettings(
        env=args.env,
        env_options=parse_options(args.env_options),
        policy=args.policy,
        device=args.device,
        recordings=args.recordings.resolve(),
    )
    tables = Tables(settings, args.tables)
    tables.prepare()  # it starts while the server is imported
    try:
        _serve(args, listener, tables)
    except KeyboardInterrupt:
        pass
    finally:
        tables.close()
        listener.close()


def _serve(args: Args, listener: socket.socket, tables: object) -> None:
    import uvicorn

    from rf_agent.play.messages import MAX_BYTES
    from rf_agent.play.tables import Tables
    from rf_agent.play.web import make_app

    assert isinstance(tables, Tables)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    url = f"http://{_shown(args.host)}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        make_app(tables, args.host), ws_max_size=4 * MAX_BYTES, log_level="error", timeout_graceful_shutdown=2
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"The play table is at {url} (Ctrl-C ends it).")
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        console.print("Everybody who reaches this address can play and record; there is no password.")
    if args.open:
        threading.Timer(0.5, webbrowser.open, (url,)).start()
    uvicorn.Server(config).run(sockets=[listener])


def _shown(host: str) -> str:
    """The host as it stands in an address: of all addresses of this machine, the local one."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{local}]" if ":" in local else local


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}: give one of 1 to 65535, or 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(64)  # a second server that asks for the port is refused from here on
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot listen at {host} on port {port} ({reason}): end what uses it, or give another --port"
        ) from error
    return listener


def _check_policy(name: str) -> None:
    """Refuse a policy that is not there before anything starts; whether it can act shows when it is loaded."""
    from rf_agent.evaluation.agents import has_network

    bundled = Path(__file__).parents[1] / "bundled"
    if has_network(name) and not Path(name).is_dir() and not (bundled / name).is_dir():
        known = ", ".join(sorted(path.name for path in bundled.iterdir() if path.is_dir()))
        raise UserError(
            f"there is no policy {name!r}: give a checkpoint directory, a bundled one ({known}), 'expert', 'random' or "
            "module:factory"
        )
