"""Tracks work that may stop being wanted: a request whose client can leave, a block with a
deadline.

A piece of work belongs to a context (`contextvars`). asgiref and asyncio pass the context on to the
threads and tasks that they start, so what those do belongs to the same work. A thread that code
starts itself has a context of its own, and works for nobody.
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
"""Whether there was ever any work in this process; until then, nobody needs to look for it."""

# Why work isn't wanted any more.
ABANDONED = "abandoned"
DEADLINE = "deadline"

# Seconds between two looks at a client.
LOOK_EVERY = 0.05


class Stoppable(Protocol):
    """What a piece of work is doing: running a statement, or waiting for a connection."""

    thread_id: int

    def stop(self) -> None:
        """Stop it. The watching thread calls this repeatedly until it has stopped."""

    def is_running(self) -> bool:
        """Tell whether it is still running. An interrupt may have left it in the list."""


class Work:
    """A piece of work, wanted until its deadline passes or its client leaves.

    `seconds` is how long it may take. `has_gone` tells whether the client has gone; the watching
    thread calls it once the work has lasted `patience` seconds. Inside other work, the limits of
    that work apply, too.
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

    # Each request of a site with CancelAbandonedMiddleware makes one: make no unnecessary call.
    def __init__(
        self,
        seconds: float = inf,
        has_gone: Callable[[], bool] | None = None,
        patience: float = 0.0,
    ) -> None:
        self.began = began = monotonic()
        self._seconds = seconds
        self.until = until = began + seconds
        # The work that set this deadline, and the work that has the client; `None` stands for this
        # one: an object that refers to itself has to wait for the garbage collector.
        self._deadline_of: Work | None = None
        self._client: Work | None = None
        self._has_gone = has_gone
        # When the watching thread looks at it next.
        patient = began + patience
        self.next_look = until if has_gone is None or until < patient else patient
        self.outer = outer = context.get() and current()
        if outer is not None:
            if outer.until < until:
                self.until, self._deadline_of = outer.until, outer._deadline_of or outer
            if has_gone is None:
                self._has_gone, self._client = outer._has_gone, outer._client or outer
            self.next_look = min(self.next_look, outer.next_look)
        # A set, whose single operations are atomic.
        self.running: set[Stoppable] = set()
        # Why it is no longer wanted; "" while it is.
        self.stopped = ""
        self.has_ended = False
        # Seconds that went into waiting for connections, and into statements.
        self.waited = self.worked = 0.0

    # For those who do the work

    def forget_interrupted(self) -> None:
        """Forget what this thread was doing for it but, because of an interrupt, didn't end."""
        mine = get_ident()
        for each in list(self.running):
            if each.thread_id == mine:
                self.running.discard(each)

    def is_wanted(self) -> bool:
        """Tell whether it is still wanted, as far as we know."""
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
        """Note that a statement took this many seconds."""
        self._spend("worked", seconds)

    def note_waited(self, seconds: float) -> None:
        """Note that waiting for a connection took this many seconds."""
        self._spend("waited", seconds)

    def _spend(self, on: str, seconds: float) -> None:
        work: Work | None = self
        while work is not None:
            setattr(work, on, getattr(work, on) + seconds)
            work = work.outer

    def error(self, stops: Stops, what: str, *, waiting: bool = False) -> OperationalError:
        """Return what to raise because it isn't wanted any more; `what` says what happened."""
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

    # For the watching thread

    def abandon(self) -> None:
        """Note that its client has gone."""
        self.stopped = self.stopped or ABANDONED

    @property
    def is_abandoned(self) -> bool:
        """Whether its client has gone."""
        return self.stopped == ABANDONED

    def is_over(self) -> bool:
        """Tell whether nothing is left to watch."""
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
"""The work that this context entered last and hasn't left."""


def current() -> Work | None:
    """Return the work of this context, if there is any."""
    work = context.get()
    # Tasks that outlive their work keep its context; abandoned work stays abandoned.
    while work is not None and work.has_ended and work.stopped != ABANDONED:
        work = work.outer
    return work
