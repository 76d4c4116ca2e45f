"""One server session's use by a task, and by threads before and after.

psycopg's two kinds of connections keep what they know of libpq's connection in attributes, which
mean the same to both, except for `OF_KIND`. So a task gets handles that share the attributes with
those of threads (see `../session/use.py`), and while it has them, the attributes are a task's.
Nobody else has a handle of the session then. Read against psycopg 3.2 and 3.3;
`tests/pooling/tasks/test_use.py` fails if psycopg's connections get another attribute that differs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from django.db import NotSupportedError

from ..session.use import Use, withdraw
from .cursors import cursor_classes_for
from .handles import QuickTaskHandle, RawTaskHandle, new_handles

OF_KIND = ("lock", "cursor_factory", "server_cursor_factory")
"""The attributes whose values differ between psycopg's two kinds of connections."""

_IN_USE = "a task goes on using it, or was interrupted"


class TaskUse(Use):
    """A borrow's use of a session that belongs to a task from `begin_task()` on."""

    # The session's attributes for threads; exists from `begin_task()` to `end()`.
    _of_threads: dict[str, Any]
    # Like `quick` and `raw`, but for a task.
    quick_in_task: QuickTaskHandle
    raw_in_task: RawTaskHandle
    lock: asyncio.Lock

    def begin_task(self) -> None:
        """Let a task use the session; handles that threads have become useless."""
        session = self.session
        if session.is_proxied:
            raise NotSupportedError(
                "a task can't borrow a connection that another package has wrapped, as ddtrace does"
            )
        super().end()
        # The pool's own handles; outside its threads, nobody has one.
        self.quick, self.raw = session.handles or session.new_handles()
        namespace = session.namespace
        self.lock = asyncio.Lock()
        cursor, server_cursor = cursor_classes_for(namespace["cursor_factory"])
        self.quick_in_task, self.raw_in_task = new_handles(namespace)
        self._of_threads = {name: namespace[name] for name in OF_KIND}
        namespace.update(zip(OF_KIND, (self.lock, cursor, server_cursor), strict=True))

    def break_lock(self) -> None:
        """Let whoever ends the borrow use the connection, which isn't lent again."""
        self.doubt = self.doubt or _IN_USE
        self.session.namespace["lock"] = asyncio.Lock()

    def end(self) -> None:
        # Atomic: another thread may be reclaiming the session at the same time.
        of_threads = vars(self).pop("_of_threads", None)
        if of_threads is not None:
            if self.lock.locked():
                self.doubt = self.doubt or _IN_USE
            self.end_server_cursors()
            withdraw(self.quick_in_task, self.raw_in_task)
            self.session.namespace.update(of_threads)
        super().end()
