"""Owns cursors that note what a borrower's statements do to the session; changes no result.

Every cursor of a pooled connection is one, Django's as well as those that code asks of psycopg's
connection itself.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.sql import Composable

from .session import Session, session_of
from .statements import changes_session, prepares

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


def note_server_cursor(cursor: psycopg.Cursor[Any]) -> None:
    """Remember a server-side cursor: it stays in its session until it is closed."""
    session = session_of(cursor.connection)
    if cursor not in session.server_cursors:
        session.server_cursors = [c for c in session.server_cursors if not c.closed]
        session.server_cursors.append(cursor)


@cache
def _noting(factory: Any, mixin: Any) -> Any:
    return type(factory.__name__, (mixin, factory), {"__module__": __name__})


def _note(cursor: _NotingCursor, query: Query) -> Session:
    session = session_of(cursor.connection)
    if cursor.of_borrow != session.borrows:
        raise psycopg.InterfaceError(
            "the cursor's connection was returned to its pool, and may be somebody else's by "
            "now: make a new cursor with connection.cursor()"
        )
    if isinstance(query, Composable):
        query = query.as_string(cursor)
    elif isinstance(query, bytes):
        query = query.decode(errors="replace")
    if isinstance(query, str) and changes_session(query):
        session.changed = True
        session.prepared = session.prepared or prepares(query)
    return session


class _NotingCursor(_Base):
    def __init__(self, connection: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        self.of_borrow = session_of(connection).borrows

    def execute(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        session = _note(self, query)
        try:
            return super().execute(query, *args, **kwargs)
        except ReadOnlySqlTransaction:
            session.refused_to_write = True
            raise

    def executemany(self, query: Query, *args: Any, **kwargs: Any) -> None:
        session = _note(self, query)
        try:
            super().executemany(query, *args, **kwargs)
        except ReadOnlySqlTransaction:
            session.refused_to_write = True
            raise

    def stream(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        _note(self, query)
        return super().stream(query, *args, **kwargs)

    def copy(self, statement: Query, *args: Any, **kwargs: Any) -> Any:
        _note(self, statement)
        return super().copy(statement, *args, **kwargs)


class _NotingServerCursor(_NotingCursor):
    def __init__(self, connection: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        note_server_cursor(self)
