"""Finds out whether a server session still exists; lends and closes nothing.

Questions to the server go through libpq's asynchronous calls, because only those can be limited in
time, whatever the network does:
https://www.postgresql.org/docs/current/libpq-async.html
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from ..process.peers import has_hung_up

# Seconds a server may take to answer a connection that is to be lent or reset.
ANSWER_LIMIT = 2.0

_READABLE = select.POLLIN
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)

_Connection = psycopg.Connection[Any]
Poll = Callable[[float], list[tuple[int, int]]]


def poll_of(connection: _Connection) -> Poll:
    """Return what polls the connection's socket for something to read.

    Called with 0 (milliseconds to wait), it tells whether an idle session's server has sent
    anything: a goodbye, the end of the stream, or a message such as a changed parameter.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, _READABLE)
    return poll.poll


def is_alive(connection: _Connection, poll: Poll) -> bool:
    """Look whether an idle session still exists; no round trip unless the server sent something.

    Its caller has the connection, and its `poll`, to itself.
    """
    if not poll(0):
        return True
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return False
    # A goodbye can be read before the end of the stream has come.
    return answers(connection)


def seems_connected(connection: _Connection) -> bool:
    """Look whether the peer exists; from any thread, even if another one uses the connection."""
    try:
        return not has_hung_up(connection.pgconn.socket)
    except psycopg.Error:
        return False  # closed: it has no socket


def answers(connection: _Connection) -> bool:
    """Ask the server for a sign of life; takes at most `ANSWER_LIMIT` seconds."""
    try:
        exchange(connection, b"")
    except (psycopg.Error, TimeoutError):
        return False
    return True


def exchange(
    connection: _Connection, statements: bytes, within: float = ANSWER_LIMIT
) -> list[PGresult]:
    """Run statements in one round trip; return their results.

    Raises `psycopg.Error`, and `TimeoutError` after `within` seconds; after either, the
    connection can only be closed.
    """
    pgconn = connection.pgconn
    deadline = monotonic() + within
    results: list[PGresult] = []
    pgconn.send_query(statements)
    poll = select.poll()
    poll.register(pgconn.socket, _READABLE)
    while pgconn.flush():
        _wait(poll, pgconn.socket, _READABLE | select.POLLOUT, deadline)
        pgconn.consume_input()
    while True:
        while pgconn.is_busy():
            _wait(poll, pgconn.socket, _READABLE, deadline)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        results.append(result)
        if pgconn.status == ConnStatus.BAD:
            break
    for result in results:
        if result.status in _FAILED:
            raise error_from_result(result)
    return results


def _wait(poll: select.poll, socket: int, events: int, deadline: float) -> None:
    poll.modify(socket, events)
    remaining = deadline - monotonic()
    if remaining <= 0 or not poll.poll(remaining * 1000):
        raise TimeoutError("the server did not answer in time")
