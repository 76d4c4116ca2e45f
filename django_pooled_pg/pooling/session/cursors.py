"""Cursors that note what a borrower's statements do to the session; they change no result.

Every cursor of a borrowed connection is one: Django's, and those that code gets from psycopg's
connection itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.sql import Composable

from ..work import work
from .running import Statement, copy_for, is_in_pipeline, rows_for, run_for, statement_for
from .statements import CHANGES, effect_after, effect_of
from .use import RETURNED_HANDLE, Use, of_psycopg, use_of

if TYPE_CHECKING:
    _Base = psycopg.Cursor[Any]
else:
    _Base = object

_new: Callable[[Any], Any] = object.__new__
# The transformer for cursors that no longer convert any value.
_NOTHING = Transformer()

Query = Any  # psycopg's own name for what it takes is not public


def note_statements(connection: psycopg.Connection[Any]) -> None:
    """Make all cursors that the connection creates from now on note their statements."""
    factories: Any = connection
    factories.cursor_factory = noting(factories.cursor_factory)
    factories.server_cursor_factory = noting(factories.server_cursor_factory, server=True)


def noting(factory: Any, *, server: bool = False) -> Any:
    """Return a factory of cursors like those of `factory`, but which note their statements."""
    if not isinstance(factory, type):
        # Whatever it makes works through the raw handle, which does the noting.
        return lambda connection, **options: factory(use_of(connection).raw, **options)
    if issubclass(factory, NotingCursor):
        return factory
    cursor_class: Any = factory
    return _noting(cursor_class, server)


# Some packages make a class for each connection: those mustn't pile up here.
@lru_cache(maxsize=16)
def _noting(factory: Any, server: bool) -> Any:
    body: dict[str, Any] = {"__module__": __name__, "_factory": factory}
    if server:
        return type(factory.__name__, (NotingServerCursor, factory), body)
    # A dict for each cursor would cost more than all the rest.
    body["__slots__"] = ("_open", "_use")
    return type(factory.__name__, (NotingCursor, factory), body)


class NotesStatements:
    """What noting cursors of threads and of tasks have in common."""

    __slots__ = ()
    _use: Any
    _results: list[Any]  # psycopg's own, of all statements of one execution

    def _note(self, query: Query) -> str:
        """Note what a statement is about to do; return its text."""
        if isinstance(query, Composable):
            query = query.as_string(cast(psycopg.Cursor[Any], self))
        elif isinstance(query, bytes):
            query = query.decode(errors="replace")
        elif not isinstance(query, str):  # a template string, whose parts may be anything
            self._use.note(CHANGES, "a template string")
            query = " ".join(query.strings)
        self._use.note_statement(query, effect_of(query))
        return str(query)

    def _note_results(self, sql: str) -> None:
        """Note what a statement did, by what the server says of it."""
        tags = [result.command_status for result in self._results]
        self._use.note_statement(sql, effect_after(sql, tags))


# Each statement of each request comes through here: make no unnecessary call.
class NotingCursor(NotesStatements, _Base):
    """A cursor that notes its statements; when a connection makes one, it must `belong_to` its use.

    `make` does both at once.
    """

    __slots__ = ()
    notes_statements = True
    _factory: Any
    _use: Use
    # The use's `open_cursors` while this is one of them.
    _open: list[None] | None

    # No __getattr__ here: it would make psycopg's own access to each attribute slow.
    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        self._open = None
        self._use = use = use_of(connection)
        super().__init__(connection, *args, **kwargs)
        if not use.is_of_nobody and use.session.is_proxied:
            self.belong_to(use)

    def belong_to(self, use: Use) -> None:
        self._use = use
        self._open = use.open_cursors
        use.open_cursors.append(None)

    @classmethod
    def make(cls, use: Use) -> Any:
        """Make one as the connection's `cursor()` does."""
        # Not by calling the class: each query makes one, and psycopg's __init__ is enough.
        cursor = _new(cls)
        cursor._use = use
        cursor._open = None
        cls._factory.__init__(cursor, use.quick)
        cursor._open = open_cursors = use.open_cursors
        open_cursors.append(None)
        return cursor

    @property
    def connection(self) -> Any:
        # psycopg reads this for each statement.
        connection, use = self._conn, self._use
        if connection is use.quick:
            return connection if of_psycopg(sys._getframe(1)) else use.raw
        return use.raw if connection is RETURNED_HANDLE else connection

    def _statement(self, query: Query = None) -> Statement | None:
        """Return what tracks the statement for its caller's work; `None` if nothing limits it."""
        use = self._use
        statement = statement_for(use, query)
        if statement is not None and is_in_pipeline(use):
            # The wait comes later, and the raw handle limits it.
            self._conn = use.raw
        return statement

    def execute(self, query: Query, params: Any = None, **kwargs: Any) -> Any:
        use = self._use
        started = monotonic()
        try:
            if work.in_use and (statement := self._statement(query)) is not None:
                return run_for(statement, self._run, query, params, kwargs)
            # A statement known to leave nothing, as nearly all do.
            if type(query) is str and not kwargs and not effect_of(query):
                return self._factory.execute(self, query, params)
            return self._run(query, params, kwargs)
        except ReadOnlySqlTransaction:
            use.refused_to_write = True
            raise
        finally:
            use.worked += monotonic() - started

    def _run(self, query: Query, params: Any, kwargs: dict[str, Any]) -> Any:
        if type(query) is str and not kwargs and not effect_of(query):
            return self._factory.execute(self, query, params)
        sql = self._note(query)
        result = super().execute(query, params, **kwargs)
        self._note_results(sql)
        return result

    def executemany(self, query: Query, *args: Any, **kwargs: Any) -> None:
        use, statement, run = self._use, self._statement(), super().executemany
        sql = self._note(query)
        started = monotonic()
        try:
            if statement is None:
                run(query, *args, **kwargs)
            else:
                run_for(statement, run, query, *args, **kwargs)
            self._note_results(sql)
        except psycopg.Error as ex:
            use.refused_to_write |= isinstance(ex, ReadOnlySqlTransaction)
            raise
        except BaseException:
            use.note_unsynced()  # psycopg may have run it in a pipeline
            raise
        finally:
            use.worked += monotonic() - started

    def stream(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        self._note(query)
        # libpq stays in single-row mode until the next statement outside a pipeline, such as the
        # reset: another borrower's pipeline or executemany() would lose rows.
        self._use.note(CHANGES, "stream()")
        rows = super().stream(query, *args, **kwargs)
        mine = work.current()
        return rows if mine is None else rows_for(mine, self._use, rows)

    def copy(self, statement: Query, *args: Any, **kwargs: Any) -> Any:
        self._note(statement)
        copying = super().copy(statement, *args, **kwargs)
        runs = self._statement()
        return copying if runs is None else copy_for(runs, copying)

    def close(self) -> None:
        self._factory.close(self)
        if self._open is not None:
            self._open = None
            # What a closed cursor no longer needs would count as kept: see Use.end().
            self._conn, self._tx = RETURNED_HANDLE, _NOTHING
            if self._query is not None:
                self._query._tx = _NOTHING
            self._use.cursor_is_gone()

    # Many cursors are never closed: they go when the function that made them ends.
    def __del__(self) -> None:
        try:
            is_open = self._open is not None
        except AttributeError:  # an interrupt came while it was made
            return
        if is_open:
            self._open = None
            self._use.cursor_is_gone()


def _run_as(name: str) -> Any:
    """Return the method of that name in a version that runs for its caller's work."""

    def run(self: NotingCursor, *args: Any, **kwargs: Any) -> Any:
        method, statement = getattr(super(NotingServerCursor, self), name), self._statement()
        if statement is None:
            return method(*args, **kwargs)
        return run_for(statement, method, *args, **kwargs)

    return run


class NotingServerCursor(NotingCursor):
    """A server-side cursor: it stays in its session until it is closed."""

    __slots__ = ()
    withhold: bool  # psycopg's

    @classmethod
    def adopt(cls, cursor: Any, use: Use) -> None:
        """Turn a cursor that its connection didn't make, such as Django's, into one of ours."""
        if not isinstance(cursor, cls):
            cursor.__class__ = noting(type(cursor), server=True)
            cursor._conn = use.quick
            cursor.belong_to(use)

    def belong_to(self, use: Use) -> None:
        super().belong_to(use)
        use.server_cursors = [*use.server_cursors, self]

    def _note_results(self, sql: str) -> None:
        """Ignore them: they belong to psycopg's own DECLARE and FETCH."""

    # The methods that ask the server.
    fetchone = _run_as("fetchone")
    fetchmany = _run_as("fetchmany")
    fetchall = _run_as("fetchall")
    scroll = _run_as("scroll")
    __next__ = _run_as("__next__")

    def __iter__(self) -> Any:
        rows: Any = super().__iter__()
        # In psycopg 3.3 this is the cursor itself; before, a generator, which asks the server.
        mine = None if rows is self else work.current()
        return rows if mine is None else rows_for(mine, self._use, rows)

    def close(self) -> None:
        use = self._use
        if self.withhold and self._conn.pgconn.transaction_status == TransactionStatus.INERROR:
            # psycopg can't close it on the server then, so it outlives the transaction.
            use.note(CHANGES, "DECLARE")
        super().close()
        use.server_cursors = [each for each in use.server_cursors if each is not self]
