"""Owns bringing a returned connection back to its clean state, and then into its psycopg_pool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic

import psycopg
from psycopg.pq import TransactionStatus

from ..backing.null import AnyBacking
from ..config import Connection, PoolConfig
from ..process.locks import Lock
from . import session as sessions
from .session import Session, session_of

logger = logging.getLogger(__name__)


class Cleaning:
    """The `reset` of one pool. `configure` puts back what belongs to every session of it."""

    def __init__(
        self, pool_name: str, config: PoolConfig, configure: Callable[[Connection], None]
    ) -> None:
        self._pool_name = pool_name
        self._reset = config.reset
        # Whether a session that is clean is left as it is.
        self.only_where_needed = config.reset in ("auto", "never")
        self._keeps = config.pool_class != "null"
        self._configure = configure
        # Guards `resets`, the number of sessions that were reset.
        self._lock = Lock()
        self.resets = 0

    def put_back(self, backing: AnyBacking, connection: Connection) -> None:
        """Return a connection when a worker has cleaned it.

        One that can't be cleaned is closed, and psycopg_pool replaces it.
        """
        session = session_of(connection)
        if connection.closed or backing.closed:
            pass  # psycopg_pool sees to it
        elif self._keeps:
            session.in_cleaning = True
            if backing.in_worker(partial(self._clean_and_put_back, backing, connection)):
                return
        else:
            backing.drop(connection)
            return
        backing.take_back(connection)

    def is_needed(self, connection: Connection, session: Session) -> bool:
        """Tell, without asking the server, whether there is anything to clean."""
        if self._reset == "auto":
            return not sessions.is_clean(connection, session)
        if self._reset == "never":
            return connection.pgconn.transaction_status != TransactionStatus.IDLE
        return True

    def _clean_and_put_back(self, backing: AnyBacking, connection: Connection) -> None:
        session = session_of(connection)
        try:
            reset = self.clean(connection)
            with self._lock:
                self.resets += reset
        except Exception as ex:  # its server, or the user's callback
            logger.warning(
                "Pool %r: closing a connection that can't be cleaned: %s", self._pool_name, ex
            )
            connection.close()
        session.idle_since = monotonic()
        session.in_cleaning = False
        backing.take_back(connection)

    def clean(self, connection: Connection) -> bool:
        """Clean a session, at the price of a round trip or more; return whether it was reset.

        Raises whatever goes wrong; the connection is good for nothing then.
        """
        session = session_of(connection)
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
