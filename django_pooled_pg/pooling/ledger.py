"""Keeps the book of one pool: what is lent, from which psycopg_pool, and the lock around it all."""

from __future__ import annotations

from .backing.null import AnyBacking
from .counters import Counters
from .lease import Lease
from .process.locks import RLock


class Ledger:
    """The state of one pool. Change its parts only with `lock` held.

    psycopg_pool uses the same lock, so that a connection moves from there into a lease, and back,
    in one critical section. Reentrant: a signal handler or a destructor may come here while its
    thread holds the lock. Never connect, or wait for anything, while holding it.
    """

    __slots__ = ("backing", "closing", "counters", "leases", "leaving", "lock")

    def __init__(self) -> None:
        self.lock = RLock()
        # `None` while the pool is closed.
        self.backing: AnyBacking | None = None
        # Those being closed, since when by `time.monotonic()`.
        self.closing: dict[AnyBacking, float] = {}
        self.leases: set[Lease] = set()
        # Given back, but not yet where they belong.
        self.leaving: set[Lease] = set()
        self.counters = Counters()

    def open_leases(self) -> list[Lease]:
        """Return the open leases."""
        with self.lock:
            return list(self.leases)
