"""The classes of handles: what a borrower has in place of a connection; see `use.py`.

Relies on private names of psycopg's connection: `_commit_gen` and the others in
`HARMLESS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, partial
from types import CodeType
from typing import TYPE_CHECKING, Any, cast
from weakref import finalize

import psycopg
import psycopg.generators

from ..work import work
from ..work.stops import Stops
from .cursors import NotingCursor, note_statements, noting
from .running import Queued, Statement, run_for, statement_for
from .session import Session, remember, session_of
from .statements import CHANGES
from .use import Use, begin_unused, of_psycopg, refuse, set_attribute, use_of

if TYPE_CHECKING:
    from psycopg._connection_base import BaseConnection

    _BaseOfBoth = BaseConnection[Any]
    _Base = psycopg.Connection[Any]
else:
    _BaseOfBoth = _Base = object

FACTORIES = ("cursor_factory", "server_cursor_factory")

# What psycopg runs when a block ends.
_ENDS = {
    getattr(getattr(cls, "_exit_gen", None), "__code__", None)
    for cls in (psycopg.Transaction, psycopg.Pipeline)
} - {None}
_OF_CONNECTIONS = (
    "commit",
    "rollback",
    "set_autocommit",
    "set_isolation_level",
    "set_read_only",
    "set_deferrable",
)
# What waits for statements that a pipeline has sent.
OF_PIPELINES = {
    getattr(getattr(psycopg.Pipeline, f"_{name}_gen", None), "__code__", None)
    for name in ("sync", "fetch", "exit")
} - {None}
_END_OF_PIPELINE = getattr(getattr(psycopg.Pipeline, "_exit_gen", None), "__code__", None)
# What ends a two-phase transaction.
OF_TWO_PHASES = {
    getattr(getattr(psycopg.Connection, f"_tpc_{name}_gen", None), "__code__", None)
    for name in ("prepare", "finish")
} - {None}
# What psycopg runs on a connection without a cursor, but leaves nothing in the session. Anything
# that isn't listed counts as leaving something.
HARMLESS = {
    getattr(function, "__code__", None)
    for function in (
        *(getattr(psycopg.Connection, f"_{name}_gen", None) for name in _OF_CONNECTIONS),
        *(getattr(psycopg.Transaction, f"_{name}_gen", None) for name in ("enter", "exit")),
        *(
            getattr(psycopg.Pipeline, f"_{name}_gen", None)
            for name in ("enter", "sync", "fetch", "exit")
        ),
        getattr(psycopg.generators, "notifies", None),
    )
} - {None}


def remember_with_handles(connection: Any, stops: Stops) -> Session:
    """Note the state of a new session; its borrowers get handles like `connection`."""
    note_statements(connection)
    begin_unused(connection)
    if not issubclass(type(connection), psycopg.Connection):
        # A proxy around one, such as ddtrace's: its borrowers get the proxy itself, which can't be
        # taken away.
        session = remember(connection, lambda namespace: (connection, connection), stops)
        session.is_proxied = True
        return session
    make_handles = partial(new_handles, *_handle_classes(cast(Any, type(connection))))
    return remember(connection, make_handles, stops)


# Some packages make a class for each connection: those mustn't pile up here.
@lru_cache(maxsize=16)
def _handle_classes(connection_class: Any) -> tuple[Any, Any]:
    body = {
        "__module__": connection_class.__module__,
        "__qualname__": connection_class.__qualname__,
    }
    name = connection_class.__name__
    return (
        type(name, (_Handle, connection_class), body),
        type(name, (_RawHandle, _Handle, connection_class), body),
    )


def new_handles(quick_class: Any, raw_class: Any, namespace: dict[str, Any]) -> tuple[Any, Any]:
    """Return handles of these classes that share a connection's attributes."""
    quick, raw = object.__new__(quick_class), object.__new__(raw_class)
    set_attribute(quick, "__dict__", namespace)
    set_attribute(raw, "__dict__", namespace)
    return quick, raw


def with_handle(connection: Any, callback: Callable[[Any], object]) -> None:
    """Call a user's callback with a connection that is useless to it afterwards."""
    session, before = session_of(connection), use_of(connection)
    # New handles: a borrower may already have the others.
    handles, session.handles = session.handles, None
    use = Use(session)
    try:
        callback(use.raw)
    finally:
        use.end()
        session.handles = handles
        before.begin_again(session)


class _Handle(_Base):
    def __del__(self, *args: Any) -> None:
        """Say nothing of a connection that is open: it is the pool's."""

    def cancel(self) -> None:
        with use_of(self).asking():
            super().cancel()

    def cancel_safe(self, *args: Any, **kwargs: Any) -> None:
        with use_of(self).asking():
            super().cancel_safe(*args, **kwargs)

    def cancel_for_pool(self, *, timeout: float) -> None:
        """Cancel without a note: the pool itself knows when that is over."""
        super().cancel_safe(timeout=timeout)


class NotingHandle(_BaseOfBoth):
    """A handle that notes what is done with it."""

    def __getattr__(self, name: str) -> Any:
        if name == "_pipeline" and _is_collected(self):
            raise GeneratorExit
        current_use(self)  # raises if the attribute is missing because the handle was taken away
        of_class = getattr(super(), "__getattr__", None)
        if of_class is not None:
            return of_class(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        use = use_of(cast(Any, self))
        if use.is_of_nobody and name.startswith("_"):
            return  # psycopg ends what it had begun, such as a garbage-collected notifies()
        use = current_use(self)
        use.handled = True
        use.unsynced = use.unsynced or (name == "_pipeline" and value is not None)
        super().__setattr__(name, value)

    @property
    def pgconn(self) -> Any:
        """libpq's connection. What is done with it goes unseen, so the session isn't lent again."""
        pgconn = self.__dict__["pgconn"]
        if not of_psycopg(sys._getframe(1)):
            current_use(self).doubt = "libpq's connection was used directly"
        return pgconn

    @pgconn.setter
    def pgconn(self, pgconn: Any) -> None:
        raise AttributeError("pgconn can't be set")

    @property
    def info(self) -> Any:
        return _Info(cast(Any, self))

    def add_notice_handler(self, callback: Any) -> None:
        current_use(self).handled = True
        super().add_notice_handler(callback)

    def remove_notice_handler(self, callback: Any) -> None:
        current_use(self).handled = True
        super().remove_notice_handler(callback)

    def add_notify_handler(self, callback: Any) -> None:
        current_use(self).handled = True
        super().add_notify_handler(callback)

    def remove_notify_handler(self, callback: Any) -> None:
        current_use(self).handled = True
        super().remove_notify_handler(callback)

    def ends_unheard(self, code: CodeType | None) -> bool:
        """Tell whether psycopg ends a block that was garbage-collected while it was open."""
        return code in _ENDS and _is_collected(self)

    def note_waited(self, use: Use, code: CodeType | None) -> None:
        """Note that a generator with that code has come to its end."""
        if code is _END_OF_PIPELINE and self._pipeline is not None and self._pipeline.level <= 1:
            use.unsynced = False

    def note_wait(self, code: CodeType | None) -> Use:
        """Note that psycopg is about to run a generator with that code; return the use."""
        use = current_use(self)
        use.handled = True
        if code not in HARMLESS:
            # From a cursor that isn't ours, such as psycopg.RawCursor(connection).
            use.note(CHANGES, "a cursor of psycopg's own")
        return use


class _RawHandle(NotingHandle, _Base):
    """The connection as the thread that has borrowed it sees it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit":
            current_use(self).quick.autocommit = value
            return
        if name in FACTORIES:
            value = noting(value, server=name != "cursor_factory")
        super().__setattr__(name, value)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        use = current_use(self)
        # A connection class that makes cursors of its own makes them with the factories that note.
        handle: Any = use.quick if type(use.quick).cursor is psycopg.Connection.cursor else super()
        cursor = handle.cursor(*args, **kwargs)
        if isinstance(cursor, NotingCursor):
            cursor._conn = use.quick
            cursor.belong_to(use)
        else:
            # A cursor that doesn't tell when it is closed counts as open while anybody has it.
            use.open_cursors.append(None)
            finalize(cursor, use.cursor_is_gone).atexit = False
        return cursor

    def commit(self) -> None:
        use = current_use(self)
        if use.cancel is not None:
            use.end_cancel()
        use.quick.commit()

    def rollback(self) -> None:
        use = current_use(self)
        if work.in_use and (statement := statement_for(use, "ROLLBACK")) is not None:
            run_for(statement, use.quick.rollback)
        else:
            use.quick.rollback()

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        code = getattr(gen, "gi_code", None)
        if self.ends_unheard(code):
            return None
        use = self.note_wait(code)
        result = self._wait(use, code, gen, *args, **kwargs)
        self.note_waited(use, code)
        return result

    def _wait(self, use: Use, code: CodeType | None, *args: Any, **kwargs: Any) -> Any:
        if work.in_use and (mine := work.current()) is not None:
            if code in OF_PIPELINES:
                return run_for(Queued(mine, use), super().wait, *args, **kwargs)
            if code not in HARMLESS and code not in OF_TWO_PHASES:
                return run_for(Statement(mine, use), super().wait, *args, **kwargs)
        if use.cancel is not None:
            use.end_cancel()
        return super().wait(*args, **kwargs)


class _Info(psycopg.ConnectionInfo):
    """Asks its handle for libpq's connection, and so becomes useless with it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @property
    def pgconn(self) -> Any:  # type: ignore[override]  # an attribute there
        if not of_psycopg(sys._getframe(1)):
            current_use(self._handle).doubt = "libpq's connection was used directly"
        return self._handle.__dict__["pgconn"]


def _is_collected(handle: Any) -> bool:
    """Tell whether a generator is garbage-collected in an open block, with nothing left to end.

    Nobody could catch what it raises; Python would print it.
    """
    return use_of(handle).is_of_nobody and sys.exc_info()[0] is GeneratorExit


def current_use(handle: Any) -> Use:
    """Return the use that a handle is in; refuse a handle that was taken away."""
    use = use_of(handle)
    if use.is_of_nobody:
        refuse()
    return use
