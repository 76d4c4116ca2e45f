"""How a backing gives connections up to other processes of its budget, and grows by theirs.

Uses the private names that `base.py` lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psycopg_pool.base import AttemptWithBackoff
from psycopg_pool.pool import AddConnection

from ..config import Connection
from .base import BaseBacking

if TYPE_CHECKING:
    from .slots import Slots


class SharingBacking(BaseBacking):
    """What both kinds of psycopg_pool can do when they share a budget."""

    # Where each connection gets its slot of the budget; `None` without a budget.
    slots: Slots | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The configured limit: `_max_size` is lower while connections are promised to others.
        self._most = self._max_size
        # How many connections are to be given up to others on their return. Guarded by the lock.
        self._promised = 0
        # Whether no slot was left; whoever finds one makes the pool grow. Guarded by the lock.
        self._lacks_slots = False

    def resize_to(self, min_size: int, max_size: int) -> list[Connection]:
        with self._lock:
            self._most, self._promised = max_size, 0
            return super().resize_to(min_size, max_size)

    def put(self, connection: Connection) -> None:
        with self._lock:
            promised = self._promised > 0 and self._take_off(connection)
            self._promised -= promised
            self._nconns -= promised
        if promised and self.slots is not None:
            self.slots.give_up(connection)
        else:
            super().put(connection)

    def _add_connection(self, attempt: AttemptWithBackoff | None, growing: bool = False) -> None:
        if self.slots is None:
            super()._add_connection(attempt, growing)
        elif (slot := self.slots.take()) is not None:
            try:
                super()._add_connection(attempt, growing)
            finally:
                self.slots.settle(slot)
        else:
            with self._lock:
                self._nconns -= 1
                self._lacks_slots = True
                if growing:
                    self._growing = False
            if not self.slots.want():  # not before: it looks at what is counted
                with self._lock:
                    self._lacks_slots = False  # whoever borrows next tries again
                    if self._waiting:
                        self._maybe_grow_pool()

    def _maybe_grow_pool(self) -> None:
        if not self._lacks_slots:
            super()._maybe_grow_pool()

    def wanted(self) -> int:
        """Return how many more connections would be lent at once."""
        with self._lock:
            wanted = min(len(self._waiting), self._room())
            self._lacks_slots = self._lacks_slots and wanted > 0
            return wanted

    def _room(self) -> int:
        return len(self._waiting) if self._most == 0 else max(0, self._most - self._nconns)

    @property
    def busy(self) -> int:
        """Connections that aren't idle."""
        return self._nconns - len(self._pool)

    def grow(self, slots: int) -> None:
        """Open connections for those who wait, at most one per slot."""
        with self._lock:
            if self._closed:
                return
            for _ in range(min(slots, len(self._waiting), self._room())):
                self._nconns += 1
                self.run_task(AddConnection(self))

    def promise(self, returns: int) -> None:
        """Give up that many connections on their return; replaces any earlier promise."""
        with self._lock:
            if not returns and self._max_size == self._most:
                return
            self._promised = min(returns, self._nconns)
            self._max_size = self._nconns - self._promised if self._promised else self._most
            if self._waiting and not self._promised:
                self._lacks_slots = False
                self._maybe_grow_pool()

    def give_up_idle(
        self, count: int, keep: int, may_go: Callable[[Connection], bool]
    ) -> list[Connection]:
        """Return idle connections to be closed, which are no longer counted; `keep` stay.

        `may_go` is called with the lock held, so it must not wait.
        """
        with self._lock:
            return self._give_up_idle(min(count, self._nconns - keep), may_go)

    def _give_up_idle(self, most: int, may_go: Callable[[Connection], bool]) -> list[Connection]:
        found: list[Connection] = []
        for connection in self._pool:  # those idle longest come first
            if len(found) >= most:
                break
            if may_go(connection):
                found.append(connection)
        for connection in found:
            self._pool.remove(connection)
        self._nconns -= len(found)
        self._nconns_min = min(self._nconns_min, len(self._pool))
        return found

    def last_idle(self) -> Connection | None:
        """Return the idle connection that was used last."""
        with self._lock:
            return self._pool[-1] if self._pool else None

    def made_at(self, connection: Connection) -> float:
        """Return when a connection was opened, a `time.monotonic()` reading."""
        return float(connection._created_at)
