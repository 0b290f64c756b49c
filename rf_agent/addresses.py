"""Where a server listens: what an address and a port may be."""

from __future__ import annotations

import socket

from rf_agent.errors import UserError

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Hosts that nobody but this machine reaches."""


def others_reach(host: str) -> str | None:
    """Where other machines find a server that listens at `host`; None if that is not known, or `host` itself."""
    if host not in ("0.0.0.0", ""):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of documentation; nothing is sent
        except OSError:  # no network
            return None
        return str(probe.getsockname()[0])


def check_port(port: int) -> None:
    """Raise UserError for what is no port."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}: give 0 to 65535")
