"""Where a server listens: what an address and a port may be."""

from __future__ import annotations

from rf_agent.errors import UserError

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Hosts that nobody but this machine reaches."""


def check_port(port: int) -> None:
    """Raise UserError for what is no port."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}: give 0 to 65535")
