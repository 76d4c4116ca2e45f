"""Owns finding connections that nobody has, and closing them.

An interrupt (Ctrl-C, a task's time limit) may hit a borrow or a return just there.
"""

from __future__ import annotations

import logging
import math
from time import monotonic

from .config import Connection
from .connector import Connector
from .ledger import Ledger
from .session.session import session_of

logger = logging.getLogger(__name__)

# Seconds between two looks for lost connections, and how many looks there are.
_LOOK_EVERY = 1.0
_LOOKS = 3


class Strays:
    """The search for lost connections of one pool."""

    def __init__(self, pool_name: str, ledger: Ledger, connector: Connector) -> None:
        self._pool_name = pool_name
        self._ledger = ledger
        self._connector = connector
        self._looks_due = 0
        self._looked_at = -math.inf
        self._seen: set[Connection] = set()

    def look_soon(self) -> None:
        """Have the next calls of `look` find those that are there now."""
        self._looks_due = _LOOKS

    def look(self) -> float | None:
        """Do what is due; return in how many seconds to come again, `None` for never."""
        if not self._looks_due:
            return None
        if (early := self._looked_at + _LOOK_EVERY - monotonic()) > 0:
            return early
        self._looked_at = monotonic()
        self._looks_due -= 1
        # On its way somewhere in one look is normal; in two looks, it won't arrive.
        found = self.find()
        for connection in found & self._seen:
            self._give_up(connection)
        self._seen = found if self._looks_due else set()
        return _LOOK_EVERY

    def find(self) -> set[Connection]:
        """Return the connections that nobody has: not idle, not in a holder's lease, not cleaned.

        Those on their way from one to the other are among them.
        """
        ledger = self._ledger
        with ledger.lock:
            idle = ledger.backing.idle_connections() if ledger.backing is not None else []
            held = [lease.connection for lease in ledger.leases if lease.is_held()]
            strays = self._connector.alive().difference(idle, held)
            return {c for c in strays if not session_of(c).in_cleaning}

    def _give_up(self, connection: Connection) -> None:
        ledger = self._ledger
        # All of it with the lock: a borrower that has it after all sees that it is closed.
        with ledger.lock:
            backing = ledger.backing
            if connection not in self.find():
                return
            logger.warning(
                "Pool %r: an interrupt had lost a connection; closed it", self._pool_name
            )
            for lease in [x for x in ledger.leases if x.connection is connection]:
                ledger.leases.remove(lease)
                ledger.counters.returns += 1
                backing = lease.backing
            ledger.counters.reclaimed += 1
            session_of(connection).given_up = True
            if backing is not None:
                backing.drop(connection)
