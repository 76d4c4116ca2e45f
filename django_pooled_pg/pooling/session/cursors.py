"""Owns cursors that note what a borrower's statements do to the session; changes no result.

Every cursor of a pooled connection is one, Django's as well as those that code asks of psycopg's
connection itself.
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

from .session import Session, session_of
from .statements import CHANGES, UNKNOWN, command_of, effect_of, prepares

if TYPE_CHECKING:
    _Base = psycopg.Cursor[Any]
else:
    _Base = object

Query = Any  # psycopg's own name for what it takes is not public


def note_statements(connection: psycopg.Connection[Any]) -> None:
    """Let all cursors that the connection makes from now on note their statements."""
    factories: Any = connection
    factories.cursor_factory = _noting(factories.cursor_factory, _NotingCursor)
    factories.server_cursor_factory = _noting(factories.server_cursor_factory, _NotingServerCursor)


def adopt(cursor: Any) -> None:
    """Make a server-side cursor that wasn't made by the connection's factories one of ours."""
    if not isinstance(cursor, _NotingServerCursor):
        factory: Any = type(cursor)
        cursor.__class__ = _noting(factory, _NotingServerCursor)
        cursor._session = session = session_of(cursor.connection)
        session.open_cursors.add(id(cursor))
        session.server_cursors.append(cursor)


# Some packages make a class for each connection: those mustn't pile up here.
@lru_cache(maxsize=16)
def _noting(factory: Any, mixin: Any) -> Any:
    body: dict[str, Any] = {"__module__": __name__}
    if mixin is _NotingCursor:
        body["__slots__"] = ("_session",)  # a dict for each cursor would cost more than all else
    return type(factory.__name__, (mixin, factory), body)


# Each statement of each request comes through here: no call that isn't needed.
class _NotingCursor(_Base):
    __slots__ = ()
    _session: Session

    def __init__(self, connection: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> None:
        self._session = session = session_of(connection)
        super().__init__(connection, *args, **kwargs)
        session.open_cursors.add(id(self))

    def _note(self, query: Query) -> None:
        session = self._session
        if id(self) not in session.open_cursors and not self.closed:
            raise psycopg.InterfaceError(
                "the cursor's connection was returned to its pool, and may be somebody else's by "
                "now: make a new cursor with connection.cursor()"
            )
        if isinstance(query, Composable):
            query = query.as_string(self)
        elif isinstance(query, bytes):
            query = query.decode(errors="replace")
        if isinstance(query, str):
            effect = effect_of(query)
            session.effect = max(session.effect, effect)
            if effect >= CHANGES:
                session.prepared = session.prepared or prepares(query)
                session.reason = session.reason or command_of(query)
        else:
            session.effect = max(session.effect, UNKNOWN)

    def execute(self, query: Query, params: Any = None, **kwargs: Any) -> Any:
        session = self._session
        if type(query) is not str or id(self) not in session.open_cursors or effect_of(query):
            self._note(query)
        started = monotonic()
        try:
            if kwargs:
                return super().execute(query, params, **kwargs)
            return super().execute(query, params)
        except ReadOnlySqlTransaction:
            session.refused_to_write = True
            raise
        finally:
            session.worked += monotonic() - started

    def executemany(self, query: Query, *args: Any, **kwargs: Any) -> None:
        self._note(query)
        started = monotonic()
        try:
            super().executemany(query, *args, **kwargs)
        except ReadOnlySqlTransaction:
            self._session.refused_to_write = True
            raise
        finally:
            self._session.worked += monotonic() - started

    def stream(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        self._note(query)
        return super().stream(query, *args, **kwargs)

    def copy(self, statement: Query, *args: Any, **kwargs: Any) -> Any:
        self._note(statement)
        return super().copy(statement, *args, **kwargs)

    def close(self) -> None:
        super().close()
        self._session.cursor_is_gone(id(self))

    # Many a cursor is never closed: it goes with the function that made it.
    def __del__(self) -> None:
        session = self._session
        if id(self) in session.open_cursors:
            session.cursor_is_gone(id(self))


class _NotingServerCursor(_NotingCursor):
    __slots__ = ()
    withhold: bool  # psycopg's

    def __init__(self, connection: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        # It stays in its session until it is closed.
        self._session.server_cursors.append(self)

    def close(self) -> None:
        if self.withhold and self.connection.pgconn.transaction_status == TransactionStatus.INERROR:
            # psycopg can't close it on the server then, and it outlives the transaction.
            self._session.effect = max(self._session.effect, CHANGES)
        super().close()
        if self in self._session.server_cursors:
            self._session.server_cursors.remove(self)
