"""Chooses TCP ports on 127.0.0.1; opens no server."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """Return a port that nobody uses now and that stays free while its server is down."""
    # Not from the range of outgoing connections' ports: somebody's connection could take the
    # port while the server is down, even one to this port. Nor by `random`, which
    # pytest-randomly seeds: tests that run at once would get the same ports.
    while not is_free(port := 20000 + secrets.randbelow(12000)):
        pass
    return port


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
