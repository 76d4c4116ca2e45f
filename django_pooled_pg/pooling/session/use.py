"""What one borrow did to its session; a new `Use` for each borrow, so nothing is ever cleared.

Its borrower never has the connection itself but handles, which share the connection's attributes
(the same `__dict__`), so psycopg sees no difference. If somebody has kept a handle when the borrow
ends, it is made to share those of a closed connection instead. Whatever was kept (cursors, open
transactions, suspended generators) works through a handle, so it is useless from then on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import attrgetter
from sys import getrefcount
from types import FrameType
from typing import Any, NoReturn, Protocol
from weakref import getweakrefcount

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from ..work.work import Work
from .cancel import Cancel
from .session import Session
from .statements import CHANGES, NOTHING, command_of, prepares

_ATTRIBUTE = "_django_pooled_pg_use"

_Connection = psycopg.Connection[Any]
# A handle's class may have a __setattr__ of its own.
set_attribute: Callable[[Any, str, Any], None] = object.__setattr__


where: Callable[[], str] | None = None
"""Says where in the code this thread is, once somebody in this process wants to know where sessions
are changed (`request_record.py`)."""

# The module that asks most frequently.
_OF_CURSORS = vars(sys.modules[psycopg.Cursor.__mro__[1].__module__])


class Watcher(Protocol):
    """Wants to know when a session is no longer in use."""

    def unused(self) -> None:
        """Called when the last open cursor is closed, in whatever thread that happens."""


class Use:
    """One borrower's use of a session.

    `quick` is the handle for our cursors; `raw` is what the borrower gets as psycopg's connection,
    and notes what is done with it.
    """

    # Most uses change none of these, so they are the class's, and a new use costs little.

    # What statements may have left behind, and the command of the first that did.
    effect: int = NOTHING
    reason: str = ""
    # Where in the code that was; empty unless somebody wants to know.
    changed_at: str = ""
    # Whether a statement was prepared by SQL.
    prepared = False
    # Whether psycopg's attributes may have changed.
    handled = False
    # Whether a pipeline may have been left without a Sync: then the server is in a transaction, or
    # waits, and libpq doesn't know. `handled` is set, too.
    unsynced = False
    # Why the session can't be lent again.
    doubt = ""
    # Seconds that statements took.
    worked: float = 0.0
    refused_to_write = False
    # Whether it stands in for the use of handles that were taken away.
    is_of_nobody = False
    # A cancel request that is under way, or whose end nobody has seen.
    cancel: Cancel | None = None
    # One entry for each of the borrower's own, or psycopg's, that nobody has seen the end of.
    asked: Sequence[None] = ()
    # The statement that runs for some work, and that work, or the last one.
    statement: object = None
    work: Work | None = None
    # Who wants to know when the last open cursor is closed.
    watcher: Callable[[], Watcher | None] | None = None
    # The open ones. Strong references: one that is garbage-collected without being closed would
    # stay open on the server.
    server_cursors: Sequence[Any] = ()

    def __init__(self, session: Session) -> None:
        self.session = session
        # One entry for each open cursor. A list, whose operations are atomic: a cursor may be
        # closed or garbage-collected in any thread.
        self.open_cursors: list[None] = []
        self.quick, self.raw = session.handles or session.new_handles()
        session.namespace[_ATTRIBUTE] = self
        if session.is_proxied:
            self.handled = True  # nobody notes whether that is so

    def begin_again(self, session: Session) -> None:
        """Become what the connection's cursors find, after another use in between."""
        session.namespace[_ATTRIBUTE] = self

    def end(self) -> None:
        """Take the handles away."""
        if self.session.is_proxied:
            self.quick = self.raw = RETURNED_HANDLE
            return
        quick, raw = self.quick, self.raw
        # References don't appear from nowhere: if nobody has one now, nobody will, and the next
        # borrower gets the same handles.
        if getrefcount(quick) != _ALONE or getrefcount(raw) != _ALONE or getweakrefcount(raw):
            withdraw(quick, raw)
            self.session.handles = None
        # Kept cursors find this.
        self.quick = self.raw = RETURNED_HANDLE

    def note(self, effect: int, reason: str = "") -> None:
        """Note what a statement may leave behind, and the command or function that does so."""
        if effect > self.effect:
            self.effect = effect
        if effect >= CHANGES and not self.reason:
            self.reason = reason
            if where is not None:
                self.changed_at = where()

    def note_statement(self, sql: str, effect: int) -> None:
        """Note what a statement may leave behind."""
        if effect < CHANGES:
            self.note(effect)
        else:
            self.note(effect, self.reason or command_of(sql))
            self.prepared = self.prepared or prepares(sql)

    def note_unsynced(self) -> None:
        """Note that a pipeline may be left without a Sync."""
        self.unsynced = self.handled = True

    def forget_effect(self) -> None:
        """Treat what was done so far as part of setting up a new session."""
        self.effect, self.reason, self.changed_at = NOTHING, "", ""
        self.prepared = self.handled = False

    def cursor_is_gone(self) -> None:
        """Note that a cursor was closed, or garbage-collected without that."""
        open_cursors = self.open_cursors
        open_cursors.pop()
        if not open_cursors and self.watcher is not None:
            watcher = self.watcher()
            if watcher is not None:
                watcher.unused()

    def end_cancel(self) -> None:
        """Wait, a few seconds at most, until no cancel request is under way.

        One that isn't answered may still arrive: then the connection is closed, so that it hits
        nothing else.
        """
        cancel = self.cancel
        if cancel is None:
            return
        if not cancel.was_answered():
            self.quick.close()
        elif self.cancel is cancel:  # and not the next one, by now
            self.cancel = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Note that the borrower has the server cancel something, until the server has answered."""
        # Atomic: that may be in any thread.
        under_way = vars(self).setdefault("asked", [])
        self.handled = True
        under_way.append(None)
        yield
        # Not after an error: then the request may arrive yet.
        under_way.pop()

    def end_server_cursors(self) -> None:
        """Forget the open server-side cursors, and note that the server may still have them."""
        for cursor in self.server_cursors:
            if not cursor.closed:
                # Not the cursor's own close(), which would ask the server.
                psycopg.Cursor.close(cursor)
                self.note(CHANGES, "DECLARE")
        self.server_cursors = ()


use_of: Callable[[_Connection], Use] = attrgetter(_ATTRIBUTE)
"""Return the use that a connection, or a handle, is in; if idle, the last one."""


def begin_unused(connection: _Connection) -> None:
    """Give a connection that nobody has used yet a use, for cursors that the pool makes."""
    connection.__dict__[_ATTRIBUTE] = _OfNobody()


def of_psycopg(frame: FrameType) -> bool:
    """Tell whether the code running there is psycopg's own."""
    names = frame.f_globals
    return names is _OF_CURSORS or str(names.get("__name__")).startswith("psycopg")


def refuse() -> NoReturn:
    """Refuse to do anything for a handle that was kept."""
    raise psycopg.InterfaceError(
        "the connection was returned to its pool, and may be somebody else's by now: make a new "
        "cursor with connection.cursor()"
    )


class ReturnedPGconn:
    """Stands for libpq's connection in handles that were taken away: all that asks is refused."""

    status = ConnStatus.BAD
    transaction_status = TransactionStatus.UNKNOWN

    def __getattr__(self, name: str) -> Any:
        refuse()


class _OfNobody(Use):
    is_of_nobody = True

    def __init__(self) -> None:
        self.open_cursors = []


_RETURNED: dict[str, Any] = {
    "pgconn": ReturnedPGconn(),
    "lock": nullcontext(),
    "_closed": True,
    "_pool": None,
    _ATTRIBUTE: _OfNobody(),
}


def withdraw(quick: Any, raw: Any) -> None:
    set_attribute(quick, "__dict__", _RETURNED)
    set_attribute(raw, "__dict__", _RETURNED)


RETURNED_HANDLE: Any = object.__new__(psycopg.Connection)
RETURNED_HANDLE.__dict__ = _RETURNED


class _Counted(Use):
    """Counts, as `end` does, the references to a handle that only its use and its session have."""

    def __init__(self) -> None:
        self.handles = object(), object()
        self.quick, self.raw = self.handles

    def references(self) -> int:
        quick = self.quick
        return getrefcount(quick)


# Python versions differ in how they count variables and arguments.
_ALONE = _Counted().references()
