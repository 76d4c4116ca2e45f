"""Owns bringing a returned session back to its clean state; decides nothing about lending."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg.pq import TransactionStatus

from . import session as sessions
from .backing import Connection
from .config import PoolConfig
from .session import Session


class Cleaning:
    """The `reset` of one pool. `configure` puts back what belongs to every session of it."""

    def __init__(self, config: PoolConfig, configure: Callable[[Connection], None]) -> None:
        self._reset = config.reset
        self._configure = configure

    def is_needed(self, connection: Connection, session: Session) -> bool:
        """Tell, without asking the server, whether there is anything to clean."""
        if self._reset == "auto":
            return not sessions.is_clean(connection, session)
        if self._reset == "never":
            return connection.pgconn.transaction_status != TransactionStatus.IDLE
        return True

    def clean(self, connection: Connection) -> bool:
        """Clean a session, at the price of a round trip or more; return whether it was reset.

        Raises whatever goes wrong; the connection is good for nothing then.
        """
        session = sessions.session_of(connection)
        sessions.restore(connection)
        if callable(self._reset):
            self._reset(connection)
            status = TransactionStatus(connection.pgconn.transaction_status)
            if status != TransactionStatus.IDLE:
                raise psycopg.ProgrammingError(f"'reset' left it in status {status.name}")
        elif self._reset == "always" or (
            self._reset == "auto" and not sessions.is_clean(connection, session)
        ):
            sessions.reset(connection)
            self._configure(connection)
            sessions.renew(connection)
        else:
            return False
        return True
