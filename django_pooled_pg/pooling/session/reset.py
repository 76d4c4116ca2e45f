"""Brings a returned session back to the state it had when new, then puts it into its backing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq import Escaping, TransactionStatus

from ..backing.null import AnyBacking
from ..config import Connection, PoolConfig
from ..process.locks import Lock
from .handles import with_handle
from .liveness import ANSWER_LIMIT, exchange
from .session import (
    IDLE,
    REPORTED,
    Session,
    has_its_attributes,
    is_ongoing,
    parameters_of,
    put_back,
    renew,
    session_of,
)
from .statements import CHANGES
from .use import Use

logger = logging.getLogger(__name__)

# What DISCARD ALL does, except for plans and psycopg's own prepared statements. DISCARD ALL itself
# must be alone in its round trip: https://www.postgresql.org/docs/current/sql-discard.html
_RESET = (
    b"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    b"SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; "
)
# psycopg prepares through the protocol; from_sql marks what a borrower prepared by SQL.
_DEALLOCATE = (
    b"DO $$ DECLARE name text; BEGIN"
    b" FOR name IN SELECT p.name FROM pg_prepared_statements p WHERE from_sql LOOP"
    b" EXECUTE 'DEALLOCATE ' || quote_ident(name); END LOOP; END $$; "
)


class Reset:
    """The `reset` of one pool. `configure` restores what belongs to every session of it."""

    def __init__(
        self, pool_name: str, config: PoolConfig, configure: Callable[[Connection], None]
    ) -> None:
        self._pool_name = pool_name
        self._how = config.reset
        # Whether a clean session is left as it is.
        self.only_where_needed = config.reset in ("auto", "never")
        # Whether a use without anything unusual is proof enough that there is nothing to undo.
        self.is_quick_to_tell = config.reset == "auto"
        self._keeps = config.pool_class != "null"
        self._configure = configure
        # Guards `resets`, the number of sessions that were reset.
        self._lock = Lock()
        self.resets = 0

    def is_needed(self, connection: Connection, session: Session, use: Use) -> bool:
        """Tell, without asking the server, whether there is anything to undo."""
        if self._how == "auto":
            return not is_clean(connection, session, use)
        return not self.only_where_needed or not _is_at_rest(connection, use)

    def put_attributes_back(self, connection: Connection, session: Session) -> None:
        """Restore psycopg's attributes, unless more than that has to be undone."""
        if (
            connection.pgconn.transaction_status == IDLE
            and not connection.lock.locked()
            and not is_ongoing(connection)
            and not has_its_attributes(connection, session)
        ):
            put_back(connection, session)

    def put(self, backing: AnyBacking, connection: Connection, use: Use) -> None:
        """Put a connection into its backing after a worker has reset it.

        One that can't be reset is closed, and psycopg_pool replaces it.
        """
        if connection.closed or backing.closed:
            pass  # psycopg_pool deals with it
        elif self._keeps:
            reset_and_put = partial(self._reset_and_put, backing, connection, use)
            if backing.in_worker(reset_and_put, connection):
                return
        else:
            backing.drop(connection)
            return
        backing.put(connection)

    def _reset_and_put(self, backing: AnyBacking, connection: Connection, use: Use) -> None:
        session = session_of(connection)
        try:
            reset = self.apply(connection, use)
            with self._lock:
                self.resets += reset
        except BaseException as ex:  # from the server or a callback; the worker must survive it
            logger.warning(
                "Pool %r: closing a connection that can't be reset: %s",
                self._pool_name,
                str(ex) or type(ex).__name__,
            )
            connection.close()
        session.idle_since = monotonic()
        if not session.given_up:
            backing.put(connection)

    def apply(self, connection: Connection, use: Use) -> bool:
        """Undo what was done, by one or more round trips; tell whether the session was reset.

        Raises whatever goes wrong; the connection can only be closed then.
        """
        session = session_of(connection)
        _roll_back(connection, use)
        put_back(connection, session)
        if callable(self._how):
            with_handle(connection, self._how)
            status = TransactionStatus(connection.pgconn.transaction_status)
            if status != TransactionStatus.IDLE:
                raise psycopg.ProgrammingError(f"'reset' left it in status {status.name}")
        elif self._how == "always" or (
            self._how == "auto" and not is_clean(connection, session, use)
        ):
            _reset(connection, session, use.prepared)
            self._configure(connection)
            renew(connection)
        else:
            return False
        return True


def is_clean(connection: Connection, session: Session, use: Use) -> bool:
    """Tell, without asking the server, whether the next borrower may have the session as it is."""
    effect = use.effect
    return (
        _is_at_rest(connection, use)
        and (not use.handled or has_its_attributes(connection, session))
        # Functions that don't show in a statement may have changed parameters.
        and (not effect or (effect < CHANGES and parameters_of(connection) == session.parameters))
    )


def _is_at_rest(connection: Any, use: Use) -> bool:
    return bool(
        connection.pgconn.transaction_status == IDLE
        and connection._autocommit
        # Somebody is in the middle of something, as a suspended notifies(), or was interrupted.
        and not connection.lock.locked()
        and not use.doubt
        and use.cancel is None
        and not use.asked
        and not (use.handled and (use.unsynced or is_ongoing(connection)))
    )


def _roll_back(connection: Connection, use: Use) -> None:
    """End what the borrower left open.

    Raises `psycopg.Error` if that isn't possible, or not in time.
    """
    # In this order: the answer to the one is the other's, too.
    if (use.cancel is not None and not use.cancel.was_answered()) or use.asked:
        raise psycopg.OperationalError("a cancel request was not answered in time")
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.ACTIVE:
        # The server would go on with it even if the connection is closed. With older libpqs, a
        # request can't be kept from waiting for a server that doesn't answer.
        # https://www.postgresql.org/docs/current/libpq-cancel.html
        if psycopg.capabilities.has_cancel_safe():
            connection.cancel_safe(timeout=ANSWER_LIMIT)
        raise psycopg.OperationalError("it was interrupted in a query")
    if connection.lock.locked():
        raise psycopg.OperationalError("its borrower goes on using it, or was interrupted")
    if is_ongoing(connection):
        raise psycopg.OperationalError("a pipeline or a two-phase transaction was left open")
    if use.doubt:
        raise psycopg.OperationalError(use.doubt)
    if use.unsynced or status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        exchange(connection, b"ROLLBACK")
        use.unsynced = False


def _reset(connection: Connection, session: Session, prepared: bool) -> None:
    """Make the server forget what borrowers did, in one round trip.

    It also forgets what was configured after connecting: configure the session again.
    Raises `psycopg.Error` or `TimeoutError`; the connection can only be closed then.
    """
    quote = Escaping(connection.pgconn).escape_literal
    clean = dict(zip(REPORTED, session.parameters, strict=True))
    # Nearly every session has a time zone configured; the engine restores the rest. RESET restores
    # the name, too, but not in a pooler's session, which had none when new.
    configured = b"SET TimeZone = %b; SET application_name = %b" % (
        quote(clean[b"TimeZone"] or b"UTC"),
        quote(clean[b"application_name"] or b""),
    )
    exchange(connection, _RESET + (_DEALLOCATE if prepared else b"") + configured)
    for _ in connection.notifies(timeout=0):
        pass  # what arrived for the borrower before UNLISTEN
    session.announced_to = None
