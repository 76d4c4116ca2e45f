"""Tracks work that may stop being wanted: a request whose client can leave, a block with a deadline.

A piece of work belongs to a context (`contextvars`). asgiref and asyncio take contexts along into the
threads and tasks that they start, so what those do belongs to the work they were started for. A
thread that code starts itself has a context of its own, and works for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from threading import get_ident
from time import monotonic
from typing import Protocol

from django.db import OperationalError

from ..errors import DeadlineExceeded, RequestAbandoned
from .stops import Stops

in_use = False
"""Whether there was ever any work in this process; until then, nobody need look for it."""

# Why it isn't wanted any more.
ABANDONED = "abandoned"
DEADLINE = "deadline"

# Seconds between two looks at a client.
LOOK_EVERY = 0.05


class Stoppable(Protocol):
    """What a piece of work does at the moment: it runs a statement, or waits for a connection."""

    thread_id: int

    def stop(self) -> None:
        """Stop it. Called by the watching thread, again and again until it has stopped."""

    def is_running(self) -> bool:
        """Tell whether it goes on. An interrupt may have left it among what runs."""


class Work:
    """A piece of work, which is wanted until its deadline, and while its client is there.

    `seconds` is how long it may take. `has_gone` tells whether the client has gone; it is asked
    once the work has lasted `patience` seconds, in the watching thread. Inside other work, what
    limits that limits this, too.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_deadline_of",
        "_has_gone",
        "_seconds",
        "began",
        "has_ended",
        "next_look",
        "outer",
        "running",
        "stopped",
        "until",
        "waited",
        "worked",
    )

    # Each request of a site with CancelAbandonedMiddleware makes one: no call that isn't needed.
    def __init__(
        self,
        seconds: float = inf,
        has_gone: Callable[[], bool] | None = None,
        patience: float = 0.0,
    ) -> None:
        self.began = began = monotonic()
        self._seconds = seconds
        self.until = until = began + seconds
        # Whose deadline that is, and of which work the client is; `None` for this one, since what
        # refers to itself is left to the garbage collector.
        self._deadline_of: Work | None = None
        self._client: Work | None = None
        self._has_gone = has_gone
        # When the watching thread is to look at it next.
        patient = began + patience
        self.next_look = until if has_gone is None or until < patient else patient
        self.outer = outer = context.get() and current()
        if outer is not None:
            if outer.until < until:
                self.until, self._deadline_of = outer.until, outer._deadline_of or outer
            if has_gone is None:
                self._has_gone, self._client = outer._has_gone, outer._client or outer
            self.next_look = min(self.next_look, outer.next_look)
        # A set, of which single operations are atomic.
        self.running: set[Stoppable] = set()
        # Why it is no longer wanted; "" while it is.
        self.stopped = ""
        self.has_ended = False
        # Seconds that went into waiting for connections, and into statements.
        self.waited = self.worked = 0.0

    # For who works

    def forget_interrupted(self) -> None:
        """Forget what this thread did for it and, because of an interrupt, didn't end."""
        mine = get_ident()
        for each in list(self.running):
            if each.thread_id == mine:
                self.running.discard(each)

    def is_wanted(self) -> bool:
        """Tell whether it is wanted still, as far as is known."""
        if not self.stopped:
            if self._client is not None and self._client.is_abandoned:
                self.stopped = ABANDONED
            elif monotonic() >= self.until:
                self.stopped = DEADLINE
        return not self.stopped

    def require(self, stops: Stops) -> None:
        """Raise what `error()` returns if it isn't wanted any more."""
        if not self.is_wanted():
            raise self.error(stops, "no further statement is run for it")

    def note_worked(self, seconds: float) -> None:
        """Note that a statement took so many seconds."""
        self._spend("worked", seconds)

    def note_waited(self, seconds: float) -> None:
        """Note that waiting for a connection took so many seconds."""
        self._spend("waited", seconds)

    def _spend(self, on: str, seconds: float) -> None:
        work: Work | None = self
        while work is not None:
            setattr(work, on, getattr(work, on) + seconds)
            work = work.outer

    def error(self, stops: Stops, what: str, *, waiting: bool = False) -> OperationalError:
        """Return what to raise because it isn't wanted any more; `what` is what became of it."""
        if self.stopped == ABANDONED:
            stops.note_abandoned(self._client or self, waiting=waiting)
            return RequestAbandoned(
                f"Pool {stops.pool_name!r}: the client of this request has gone: {what}.",
                waiting=waiting,
            )
        limited = self._deadline_of or self
        stops.note_deadline(limited)
        total = monotonic() - limited.began
        others = max(0.0, total - limited.waited - limited.worked)
        return DeadlineExceeded(
            f"Pool {stops.pool_name!r}: the deadline of {limited._seconds:g} s has passed: {what}. "
            f"Of {total:.2f} s, {limited.waited:.2f} s went into waiting for connections, "
            f"{limited.worked:.2f} s into statements, and {others:.2f} s into other things."
        )

    # For who watches

    def abandon(self) -> None:
        """Note that its client has gone."""
        self.stopped = self.stopped or ABANDONED

    @property
    def is_abandoned(self) -> bool:
        """Whether its client has gone."""
        return self.stopped == ABANDONED

    def is_over(self) -> bool:
        """Tell whether there is nothing to be watched any more."""
        return self.has_ended and not self.running

    def look(self, now: float) -> float:
        """Stop what isn't wanted any more; return when to look again."""
        if not self.stopped:
            self._look_at_limits(now)
        if self.stopped:
            for each in list(self.running):
                if each.is_running():
                    each.stop()
                else:
                    self.running.discard(each)
            self.next_look = now + LOOK_EVERY
        return self.next_look

    def _look_at_limits(self, now: float) -> None:
        if now >= self.until:
            self.stopped = DEADLINE
        elif now >= self.next_look:
            client, has_gone = self._client or self, self._has_gone
            if client.is_abandoned or (has_gone is not None and has_gone()):
                client.abandon()
                self.abandon()
            self.next_look = self.until if self._has_gone is None else now + LOOK_EVERY


context: ContextVar[Work | None] = ContextVar("django_pooled_pg_work", default=None)
"""The work that this context has entered last, and not left."""


def current() -> Work | None:
    """Return the work of this context, if there is any."""
    work = context.get()
    # Tasks that outlive their work keep its context; what a client has abandoned stays so.
    while work is not None and work.has_ended and work.stopped != ABANDONED:
        work = work.outer
    return work
