"""`rf-agent play`: a table in the browser."""

from __future__ import annotations

import logging
import socket
import threading
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rf_agent.addresses import LOCAL, check_port, others_reach
from rf_agent.calvin_robot import CALVIN_VIEWS
from rf_agent.environments import check_registered, is_ours
from rf_agent.errors import UserError, require
from rf_agent.evaluation.agents import find_policy, has_network
from rf_agent.evaluation.options import parse_options
from rf_agent.files import check_result_folder

if TYPE_CHECKING:
    import uvicorn

    from rf_agent.play.tables import Tables

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
    from rf_agent.checkpoint import read_config
    from rf_agent.play.table import TableSettings
    from rf_agent.play.tables import Tables

    check_port(args.port)
    check_result_folder(args.recordings, "--recordings")
    if has_network(args.policy):
        views = read_config(find_policy(args.policy)).views  # whether it can act otherwise shows when it is loaded
        lacking = [view for view in views if view not in CALVIN_VIEWS]
        if lacking and is_ours(args.env):
            raise UserError(
                f"the policy {args.policy!r} sees the camera {lacking[0]!r}, which {args.env} does not have (it has "
                f"{', '.join(CALVIN_VIEWS)}): give an environment of its robot, or another policy"
            )
    settings = TableSettings(
        env=args.env,
        env_options=parse_options(args.env_options),
        policy=args.policy,
        device=args.device,
        recordings=args.recordings.resolve(),
    )
    tables = Tables(settings, args.tables)
    tables.prepare()  # it starts while this process imports what it needs
    try:
        check_registered(args.env)
        with _listen(args.host, args.port) as listener:
            _serve(args, listener, tables)
    except KeyboardInterrupt:
        pass
    finally:
        tables.close()


def _serve(args: Args, listener: socket.socket, tables: Tables) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    server = _server(args, tables)
    url = f"http://{_shown(args.host)}:{listener.getsockname()[1]}"
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"The play table is at {url} (Ctrl-C ends it).")
    if (address := others_reach(args.host)) is not None:
        console.print(f"Other machines find it at http://{address}:{listener.getsockname()[1]}.")
    if args.host not in LOCAL:
        console.print("Everybody who reaches this address can play and record; there is no password.")
    if args.open:
        threading.Timer(0.5, webbrowser.open, (url,)).start()
    reasons: list[str] = []
    threading.Thread(target=_end_without_table, args=(server, tables, reasons), daemon=True).start()
    server.run(sockets=[listener])
    if reasons:
        raise UserError(reasons[0])


def _end_without_table(server: uvicorn.Server, tables: Tables, reasons: list[str]) -> None:
    """What is wrong with an option that only a table's process can try is said here, not only on a page."""
    while (reason := tables.cannot_begin) == "" and not server.should_exit:
        time.sleep(0.2)
    if reason:
        reasons.append(reason)
        server.should_exit = True


def _server(args: Args, tables: Tables) -> uvicorn.Server:
    import uvicorn

    from rf_agent.play.messages import MAX_BYTES
    from rf_agent.play.web import make_app

    config = uvicorn.Config(
        make_app(tables, args.host),
        ws_max_size=4 * MAX_BYTES,
        ws_per_message_deflate=False,  # JPEG does not become smaller
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _shown(host: str) -> str:
    """The host as it stands in an address: of all addresses of this machine, the local one."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{local}]" if ":" in local else local


def _listen(host: str, port: int) -> socket.socket:
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
