"""Closes connections so that their sessions have ended before their slots are free again."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator
from time import monotonic

import psycopg

from ..config import Connection

# Seconds for all of them together. A session that takes longer ends by itself.
_LIMIT = 1.0


def closed_one_by_one(connections: Iterable[Connection]) -> Iterator[Connection]:
    """Close connections; yield each once the server has closed it, too.

    A session lives on for a moment after its client has gone, and counts for the server's limits.
    """
    sockets = {connection: _close(connection) for connection in connections}
    deadline = monotonic() + _LIMIT
    try:
        for connection, socket in sockets.items():
            if socket is not None:
                _wait_for_end(socket, deadline)
            yield connection
    finally:
        for socket in sockets.values():
            if socket is not None:
                os.close(socket)


def _close(connection: Connection) -> int | None:
    """Close it; return an open duplicate of its socket's descriptor, to be closed."""
    try:
        socket = os.dup(connection.pgconn.socket)
    except (psycopg.Error, OSError):  # it was closed already, or no descriptor is left
        socket = None
    connection.close()
    return socket


def _wait_for_end(socket: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    while poll.poll(max(0.0, deadline - monotonic()) * 1000):
        try:
            if not os.read(socket, 4096):
                return
        except OSError:  # a reset connection is an end, too
            return
