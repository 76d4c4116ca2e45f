"""Owns the book of one pool: what is lent, from which psycopg_pool, and the lock around it all."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from .backing.null import AnyBacking
from .counters import Counters
from .lease import Lease
from .process.locks import RLock


@dataclass(slots=True, eq=False)
class Ledger:
    """The state of one pool. Its parts are changed with `lock` held.

    The lock is also that of the psycopg_pool, so that a connection goes from there into a lease,
    and back, in one critical section. Reentrant: a signal handler or a destructor may come here
    while its thread holds it. Never connect, or wait for anything, while holding it.
    """

    lock: threading.RLock = field(default_factory=RLock)
    # `None` while the pool is closed.
    backing: AnyBacking | None = None
    leases: set[Lease] = field(default_factory=set)
    # Given back, but not yet where they belong.
    leaving: set[Lease] = field(default_factory=set)
    counters: Counters = field(default_factory=Counters)

    def open_leases(self) -> list[Lease]:
        """Return the open leases."""
        with self.lock:
            return list(self.leases)
