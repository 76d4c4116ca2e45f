"""One server session's use by a task, and by threads before and after.

psycopg's two kinds of connections keep what they know of libpq's connection in attributes, which
mean the same to both, except for `OF_KIND`. So a task gets handles that share the attributes with
those of threads (see `../session/use.py`), and while it has them, the attributes are a task's.
Nobody else has a handle of the session then. Read against psycopg 3.2 and 3.3;
`tests/pooling/tasks/test_use.py` fails if psycopg's connections get another attribute that differs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from time import monotonic, sleep
from typing import Any

import psycopg
from django.db import NotSupportedError

from ..process import fork
from ..session.cancel import hang_up
from ..session.handles import new_handles
from ..session.liveness import ANSWER_LIMIT
from ..session.use import ReturnedPGconn, Use, withdraw
from ..work.work import Work
from .cursors import cursor_classes_for
from .handles import QuickTaskHandle, RawTaskHandle

logger = logging.getLogger(__name__)

OF_KIND = ("lock", "cursor_factory", "server_cursor_factory")
"""The attributes whose values differ between psycopg's two kinds of connections."""

# How often tasks that nobody waits for are canceled; seconds between that, and between two looks.
_REQUESTS, _AGAIN_AFTER, _LOOK_EVERY = 3, 0.5, 0.01

_IN_USE = "a task goes on using it, or was interrupted"


class TaskUse(Use):
    """A borrow's use of a session that belongs to a task from `begin_task()` on."""

    # The session's attributes for threads; exists from `begin_task()` to `end()`.
    _of_threads: dict[str, Any]
    # Like `quick` and `raw`, but for a task.
    quick_in_task: QuickTaskHandle
    raw_in_task: RawTaskHandle
    lock: asyncio.Lock
    # How many generators of tasks run with libpq's connection, each while it waits for the server.
    waits = 0
    # The work whose stream or COPY was canceled between two of its parts.
    parts_canceled_for: Work | None = None

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
        handles = new_handles(QuickTaskHandle, RawTaskHandle, namespace)
        self.quick_in_task, self.raw_in_task = handles
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
            # First that, then looked; who begins to wait does it the other way round.
            withdraw(self.quick_in_task, self.raw_in_task)
            if self.waits:
                self._leave_pgconn()
            self.session.namespace.update(of_threads)
        super().end()

    def _leave_pgconn(self) -> None:
        """Leave libpq's connection to the tasks that use it; for the pool, it is closed.

        libpq would crash if another thread closed it meanwhile, and an event loop would go on waiting
        for what has the number of its socket next.
        """
        session = self.session
        self.doubt = self.doubt or _IN_USE
        quick, _ = session.make_handles(dict(session.namespace))
        session.pgconn = session.namespace["pgconn"] = _LEFT
        if fork.unnoticed():
            return  # the tasks are the parent's
        name = "django_pooled_pg-cancel"
        try:
            threading.Thread(target=self._end_waits, args=(quick,), name=name, daemon=True).start()
        except RuntimeError:  # no more threads
            hang_up(quick)

    def _end_waits(self, quick: Any) -> None:
        """End what tasks run. A first request may come before the server has begun with it."""
        try:
            for _ in range(_REQUESTS):
                quick.cancel_safe(timeout=ANSWER_LIMIT)
                until = monotonic() + _AGAIN_AFTER
                while self.waits and monotonic() < until:
                    sleep(_LOOK_EVERY)
                if not self.waits:
                    break
        except psycopg.Error as ex:
            logger.warning(
                "Pool %r: a statement can't be canceled: %s", self.session.stops.pool_name, ex
            )
        finally:
            hang_up(quick)


class _LeftPGconn(ReturnedPGconn):
    """Stands for libpq's connection where that was left to tasks: it is like one that is closed."""

    def __getattr__(self, name: str) -> Any:
        raise psycopg.OperationalError("the connection is closed")


_LEFT = _LeftPGconn()
