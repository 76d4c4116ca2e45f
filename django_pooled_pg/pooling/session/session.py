"""Owns what we know of a server session: its state when new, and how to get back to it.

Must not know who uses the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from time import monotonic
from typing import Any, Protocol

import psycopg
from psycopg.pq import Escaping, TransactionStatus

from .liveness import ANSWER_LIMIT, Poll, exchange, poll_of
from .statements import CHANGES, NOTHING

_ATTRIBUTE = "_django_pooled_pg_session"

# Parameters that PostgreSQL reports when they change, and that a borrower may change:
# https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
# search_path is reported from PostgreSQL 18 on.
_REPORTED = (
    b"search_path",
    b"TimeZone",
    b"session_authorization",
    b"default_transaction_read_only",
    b"application_name",
    b"client_encoding",
    b"DateStyle",
)

# What DISCARD ALL does, but for plans and psycopg's own prepared statements. DISCARD ALL itself
# must be alone in its round trip: https://www.postgresql.org/docs/current/sql-discard.html
_RESET = (
    b"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    b"SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; "
)
# psycopg prepares by the protocol; what a borrower prepared by SQL has from_sql.
_DEALLOCATE = (
    b"DO $$ DECLARE name text; BEGIN"
    b" FOR name IN SELECT p.name FROM pg_prepared_statements p WHERE from_sql LOOP"
    b" EXECUTE 'DEALLOCATE ' || quote_ident(name); END LOOP; END $$; "
)

_Connection = psycopg.Connection[Any]
IDLE = int(TransactionStatus.IDLE)


class Watcher(Protocol):
    """Who wants to know that a session is not in use."""

    def unused(self) -> None:
        """Called when the last open cursor was closed, in whatever thread that was."""


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One server session, from connect to disconnect. Times are `time.monotonic()` readings."""

    # psycopg's own attributes (_ATTRIBUTES), and the reported parameters, when it was clean.
    isolation_level: psycopg.IsolationLevel | None
    attributes: tuple[Any, ...]
    parameters: list[bytes | None]
    idle_since: float = field(default_factory=monotonic)
    # Who was told of it since it was new or reset, in the words of whoever tells.
    announced_to: list[Any] | None = None
    # The cursors, by id(), that its borrower has open; an earlier one's are of no use any more.
    # A set, whose operations are atomic: a cursor may be closed or collected in any thread.
    open_cursors: set[int] = field(default_factory=set)
    # Who wants to know when the last of them is closed.
    watcher: Callable[[], Watcher | None] | None = None
    # What its borrower's statements may have left behind, and the command of the first that did.
    effect: int = NOTHING
    reason: str = ""
    prepared: bool = False
    # Seconds that its borrower's statements took.
    worked: float = 0.0
    # Those open. Strong: one that was collected without being closed would be open on the server.
    server_cursors: list[psycopg.Cursor[Any]] = field(default_factory=list)
    refused_to_write: bool = False
    # Whether a worker is cleaning it, so that it is neither idle nor lent.
    in_cleaning: bool = False
    # Whether it was given up, because nobody seemed to have it.
    given_up: bool = False
    # Whether the server didn't want writes from the start: a standby, for example.
    read_only_from_start: bool = False
    # When it was made, or last asked whether it takes writes.
    vetted_at: float = field(default_factory=monotonic)
    # Polls its socket; for whoever has the session to itself.
    poll: Poll

    def cursor_is_gone(self, cursor: int) -> None:
        """Note that a cursor was closed, or collected without that."""
        if cursor in self.open_cursors:  # else of an earlier borrow
            self.open_cursors.discard(cursor)
            if self.open_cursors or self.watcher is None:
                return
            if (watcher := self.watcher()) is not None:
                watcher.unused()


def remember(connection: _Connection) -> Session:
    """Note the state of a session that is new."""
    session = Session(
        isolation_level=connection.isolation_level,
        attributes=(True, *_attributes(connection)[1:]),
        parameters=_parameters(connection),
        poll=poll_of(connection),
        read_only_from_start=any(
            connection.pgconn.parameter_status(name) == b"on"
            for name in (b"in_hot_standby", b"default_transaction_read_only")
        ),
    )
    # On the connection itself: found without a lookup, gone together with it.
    setattr(connection, _ATTRIBUTE, session)
    return session


# psycopg's own, which are in force from the next transaction on; their properties cost more.
_ATTRIBUTES = ("_autocommit", "_isolation_level", "_read_only", "_deferrable")
_attributes: Callable[[_Connection], tuple[Any, ...]] = attrgetter(*_ATTRIBUTES)

session_of: Callable[[_Connection], Session] = attrgetter(_ATTRIBUTE)
"""Return what is known of the connection's session."""


def renew(connection: _Connection) -> None:
    """Take the state of this moment as the clean one: whoever made it does so each time."""
    session = session_of(connection)
    session.parameters = _parameters(connection)
    session.effect, session.reason, session.prepared = NOTHING, "", False
    session.open_cursors.clear()


def end_cursors(session: Session) -> None:
    """Make cursors that the borrower still has useless to it: the session is another's soon."""
    session.open_cursors.clear()
    for cursor in session.server_cursors:
        if not cursor.closed:
            # Not its own close(), which would ask the server now, or when the cursor is
            # collected: in the midst of the next borrower's transaction.
            psycopg.Cursor.close(cursor)
            session.effect = max(session.effect, CHANGES)
    session.server_cursors.clear()


def is_clean(connection: _Connection, session: Session) -> bool:
    """Tell, without asking the server, whether the next borrower may have the session as it is."""
    effect = session.effect
    return (
        connection.pgconn.transaction_status == IDLE
        and _attributes(connection) == session.attributes
        # Functions that no statement shows may have changed parameters.
        and (not effect or (effect < CHANGES and _parameters(connection) == session.parameters))
    )


def restore(connection: _Connection) -> None:
    """End what the borrower left open and put psycopg's own attributes back.

    Raises `psycopg.Error` when a query was interrupted, when the server can't be asked to roll
    back, or doesn't in time.
    """
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.ACTIVE:
        # The server would go on with it, be the connection closed or not. Older libpqs can't be
        # kept from waiting for a server that doesn't answer.
        # https://www.postgresql.org/docs/current/libpq-cancel.html
        if psycopg.capabilities.has_cancel_safe():
            connection.cancel_safe(timeout=ANSWER_LIMIT)
        raise psycopg.OperationalError("it was interrupted in a query")
    if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        exchange(connection, b"ROLLBACK")
    session = session_of(connection)
    for name, now, clean in zip(
        _ATTRIBUTES, _attributes(connection), session.attributes, strict=True
    ):
        if now is not clean:
            setattr(connection, name[1:], clean)


def reset(connection: _Connection) -> None:
    """Make the server forget what borrowers did, in one round trip.

    Also forgotten is what was configured after connecting: configure the session again.
    Raises `psycopg.Error` or `TimeoutError`; the connection is good for nothing then.
    """
    session = session_of(connection)
    quote = Escaping(connection.pgconn).escape_literal
    clean = dict(zip(_REPORTED, session.parameters, strict=True))
    # Nearly every session has a time zone configured; the rest is for the engine to put back. RESET
    # brings a name back, too, but not to one of a pooler's sessions, which had none when new.
    put_back = b"SET TimeZone = %b; SET application_name = %b" % (
        quote(clean[b"TimeZone"] or b"UTC"),
        quote(clean[b"application_name"] or b""),
    )
    exchange(connection, _RESET + (_DEALLOCATE if session.prepared else b"") + put_back)
    for _ in connection.notifies(timeout=0):
        pass  # what arrived for the borrower before UNLISTEN
    session.announced_to = None


def _parameters(connection: _Connection) -> list[bytes | None]:
    return list(map(connection.pgconn.parameter_status, _REPORTED))
