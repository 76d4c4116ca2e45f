"""Finds connections that nobody has, and slots without a connection.

An interrupt (Ctrl-C, a task's time limit) may hit a borrow or a return at any moment. An event loop
may be closed while its tasks have connections.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import Any

from .backing.null import AnyBacking
from .config import Connection
from .connector import Connector
from .lease import Lease
from .ledger import Ledger
from .session.liveness import ANSWER_LIMIT
from .session.session import session_of

logger = logging.getLogger(__name__)

# Seconds between two looks.
LOOK_EVERY = 1.0
# Seconds after which a lease without a holder counts as found: before, its borrower may still be
# checking whether the connection is alive, which takes up to ANSWER_LIMIT.
_LEAST_AGE = ANSWER_LIMIT + 1
# For how many looks a slot must lack a connection: a borrower may wait that long for one that
# replaces another.
_LOOKS_FOR_SLOTS = 3


class Strays:
    """The search for what one pool has lost."""

    def __init__(self, pool_name: str, ledger: Ledger, connector: Connector) -> None:
        self._pool_name = pool_name
        self._ledger = ledger
        self._connector = connector
        self._looked_at = -math.inf
        # Each with the time when it was last returned.
        self._seen: dict[Connection, float] = {}
        self._seen_leases: set[Lease] = set()
        # How many slots lacked a connection, and in how many looks.
        self._lost, self._lost_looks = 0, 0

    def look(self) -> float:
        """Look, if it is time to; return after how many seconds to call again."""
        if (early := self._looked_at + LOOK_EVERY - monotonic()) > 0:
            return early
        self._looked_at = monotonic()
        # To be on the way somewhere in one look is normal. In two looks it won't arrive, unless it
        # did so in between and is on its way again, as often happens when many wait.
        lock = self._ledger.lock
        found = self.find()
        for connection, returned in found.items():
            if self._seen.get(connection) != returned:
                continue
            # All of it with the lock: a borrower that has it after all finds it closed.
            with lock:
                self._give_up(connection)
        with lock:
            leases = self._given_back()
            self._forget_arrived(leases & self._seen_leases)
            self._count_slots()
        self._seen, self._seen_leases = found, leases
        return LOOK_EVERY

    def find(self) -> dict[Connection, float]:
        """Return the connections that nobody has: neither idle, nor leased by a holder, nor reset.

        Each comes with the time when it was last returned. They include those on their way from one
        place to another.
        """
        with self._ledger.lock:
            return {connection: session_of(connection).idle_since for connection in self._find()}

    # What follows is called with the lock held.

    def _find(self) -> set[Connection]:
        ledger, backing = self._ledger, self._ledger.backing
        strays = self._connector.alive()
        for lease in ledger.leases | ledger.leaving:
            strays.add(lease.connection)
            strays -= lease.backing.with_workers()
        if backing is not None:
            strays.difference_update(backing.idle_connections(), backing.with_workers())
        strays.difference_update(x.connection for x in ledger.leases if self._is_in_hands(x))
        return {connection for connection in strays if not session_of(connection).is_busy}

    def _given_back(self) -> set[Lease]:
        ledger = self._ledger
        return {lease for lease in ledger.leases if lease.returned} | ledger.leaving

    def _forget_arrived(self, leases: set[Lease]) -> None:
        for lease in leases:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        self._ledger.leases.discard(lease)
        self._ledger.leaving.discard(lease)

    def _is_in_hands(self, lease: Lease) -> bool:
        if lease.returned:
            return False
        return lease.is_held() or monotonic() - lease.since < _LEAST_AGE

    def _give_up(self, connection: Connection) -> None:
        if connection not in self._find():
            return
        ledger = self._ledger
        # The pool that lent it: another one may have opened since.
        backing = _pool_of(connection)
        if (seconds := _reset_for(backing, connection)) is None:
            logger.warning(
                "Pool %r: an interrupt, or the end of an event loop, had lost a connection; closed it",
                self._pool_name,
            )
        else:
            logger.warning(
                "Pool %r: 'reset', or 'configure' after it, has run for %.1f s, and the pool was "
                "closed meanwhile; closed the connection",
                self._pool_name,
                seconds,
            )
        for lease in [x for x in ledger.leases | ledger.leaving if x.connection is connection]:
            if not lease.returned:
                lease.returned = True
                lease.use.end()
                ledger.counters.returns += 1
            self._forget(lease)
            backing = lease.backing
        ledger.counters.reclaimed += 1
        session_of(connection).given_up = True
        if backing is not None:
            backing.drop(connection)
        else:
            connection.close()  # _count_slots() finds its slot

    def _count_slots(self) -> None:
        """Find slots that count as taken but have no connection, and vice versa."""
        ledger, backing = self._ledger, self._ledger.backing
        if backing is None or self._connector.making or self._connector.last_error is not None:
            self._lost_looks = 0
            return
        have = backing.with_workers()
        # Those on their way to a borrower are nowhere else; those of a pool that was closed don't
        # count here.
        have.update(c for c in self._connector.alive() if _pool_of(c) in (None, backing))
        have.update(x.connection for x in ledger.leases | ledger.leaving if x.backing is backing)
        lost = backing.size - len(have)
        if lost == 0 or lost != self._lost or backing.is_making():
            self._lost, self._lost_looks = lost, 0
            return
        self._lost_looks += 1
        if self._lost_looks >= _LOOKS_FOR_SLOTS:
            logger.warning(
                "Pool %r: an interrupt had left %d slots miscounted", self._pool_name, abs(lost)
            )
            backing.correct_size(lost)
            self._lost_looks = 0


def _pool_of(connection: Connection) -> Any:
    return getattr(connection, "_pool", None)


def _reset_for(backing: AnyBacking | None, connection: Connection) -> float | None:
    """Return for how many seconds a worker has been resetting it; `None` if none does."""
    calls = backing.calls() if backing is not None else []
    since = next((call.since for call in calls if call.connection is connection), None)
    return monotonic() - since if since is not None else None
