"""The cursors of tasks, which note what a statement does to the session, as threads' do.

See `../session/cursors.py`.

Relies on `_execute_gen` of psycopg's cursors, which is private.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.errors import ReadOnlySqlTransaction

from ..session.cursors import NotesStatements
from ..session.statements import CHANGES, effect_of
from ..session.use import of_psycopg, use_of
from .running import marked

if TYPE_CHECKING:
    from .use import TaskUse

    _Base = psycopg.AsyncCursor[Any]
else:
    _Base = object

Query = Any  # psycopg's own name for what it takes is not public

# psycopg's cursor classes for threads and their counterparts for tasks, the special ones first.
_CLASSES = (
    (psycopg.ClientCursor, psycopg.AsyncClientCursor),
    (psycopg.RawCursor, psycopg.AsyncRawCursor),
    (psycopg.Cursor, psycopg.AsyncCursor),
)


def cursor_classes_for(factory: Any) -> tuple[Any, Any]:
    """Return the classes of a task's cursors that correspond to `factory`, which is for threads.

    Django's bind parameters in the client unless its `server_side_binding` says otherwise:
    https://docs.djangoproject.com/en/stable/ref/databases/#server-side-parameters-binding
    """
    return _classes_for(factory if isinstance(factory, type) else psycopg.Cursor)


# Some packages make a class for each connection: those mustn't pile up here.
@lru_cache(maxsize=16)
def _classes_for(factory: Any) -> tuple[Any, Any]:
    found = (for_tasks for for_threads, for_tasks in _CLASSES if issubclass(factory, for_threads))
    plain: Any = next(found, psycopg.AsyncCursor)
    return noting(plain), noting(psycopg.AsyncServerCursor, server=True)


def noting(factory: Any, *, server: bool = False) -> Any:
    """Return a factory of cursors like those of `factory`, but which note their statements."""
    if not isinstance(factory, type):
        # Whatever it makes works through the raw handle, which does the noting.
        return lambda connection, **options: factory(_use_of(connection).raw_in_task, **options)
    if issubclass(factory, NotingTaskCursor):
        return factory
    cursor_class: Any = factory
    return _noting(cursor_class, server)


def _use_of(connection: Any) -> TaskUse:
    return cast("TaskUse", use_of(connection))


@lru_cache(maxsize=16)
def _noting(factory: Any, server: bool) -> Any:
    base = NotingTaskServerCursor if server else NotingTaskCursor
    return type(factory.__name__, (base, factory), {"__module__": factory.__module__})


class NotingTaskCursor(NotesStatements, _Base):
    """A task's cursor that notes its statements."""

    _use: TaskUse

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        self._use = _use_of(connection)
        super().__init__(connection, *args, **kwargs)

    @property
    def connection(self) -> Any:
        connection, use = self._conn, self._use
        if connection is use.quick_in_task and not of_psycopg(sys._getframe(1)):
            return use.raw_in_task
        return connection

    def _execute_gen(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        return marked(super()._execute_gen(query, *args, **kwargs), query)

    async def execute(self, query: Query, *args: Any, **kwargs: Any) -> Any:
        use = self._use
        started = monotonic()
        try:
            if type(query) is str and not effect_of(query):
                return await super().execute(query, *args, **kwargs)
            sql = self._note(query)
            result = await super().execute(query, *args, **kwargs)
            self._note_results(sql)
            return result
        except ReadOnlySqlTransaction:
            use.refused_to_write = True
            raise
        finally:
            use.worked += monotonic() - started

    async def executemany(self, query: Query, *args: Any, **kwargs: Any) -> None:
        use, sql = self._use, self._note(query)
        started = monotonic()
        try:
            await super().executemany(query, *args, **kwargs)
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
        self._use.note(CHANGES, "stream()")  # as for threads
        return super().stream(query, *args, **kwargs)

    def copy(self, statement: Query, *args: Any, **kwargs: Any) -> Any:
        self._note(statement)
        return super().copy(statement, *args, **kwargs)


class NotingTaskServerCursor(NotingTaskCursor):
    """A task's server-side cursor."""

    withhold: bool  # psycopg's

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(connection, *args, **kwargs)
        use = self._use
        use.server_cursors = [*use.server_cursors, self]

    async def close(self) -> None:
        await super().close()
        use = self._use
        use.server_cursors = [each for each in use.server_cursors if each is not self]

    def _note(self, query: Query) -> str:
        if self.withhold:
            # Unless it is closed, it outlives its transaction, and the borrow with it.
            self._use.note(CHANGES, "DECLARE")
        return super()._note(query)

    def _note_results(self, sql: str) -> None:
        """Ignore them: they belong to psycopg's own DECLARE and FETCH."""
