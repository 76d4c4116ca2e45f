"""Owns how a forked child lets go of a connection it inherited; knows no pool."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

import psycopg


def detach_from_server(connection: psycopg.Connection[Any]) -> None:
    """Point the inherited socket elsewhere, so that nothing here can reach the server.

    Child and parent share the socket. Whatever libpq sends from the child, be it only the
    farewell of a `close()`, would arrive in the parent's session and break or end it.
    (psycopg itself leaves inherited connections alone when they are finalised, but not
    when they are closed or used.)
    """
    # A thread that isn't here may have been in the midst of a query: nobody would release it.
    connection.lock = threading.Lock()
    # OperationalError: it was closed before the fork and has no socket.
    with suppress(psycopg.OperationalError):
        socket = connection.pgconn.socket
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.dup2(nowhere, socket, inheritable=False)
        finally:
            os.close(nowhere)
