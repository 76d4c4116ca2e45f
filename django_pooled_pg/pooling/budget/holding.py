"""Tracks the slots that one pool has: takes them, uses them, lets them go.

It never keeps a count of how many it needs, but looks: one for each of its connections that is
open, and one for each that is being opened or closed. No interrupt, error or callback can make that
wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from time import monotonic
from weakref import WeakSet

from ..backing.slots import Slot
from ..config import Connection
from ..process.locks import Lock
from .closing import closed_one_by_one
from .slots import MEMBERS, SlotFile, free_bytes

# Seconds within which a worker begins to open a connection it was told to open.
_EXPECTED = 1.0


class Holding:
    """The slots of one pool; `open_connections` returns those that are open, wherever they are.

    Methods that take slots or let them go are called by one thread at a time, and by no borrower.
    """

    def __init__(self, open_connections: Callable[[], Collection[Connection]]) -> None:
        self._open_connections = open_connections
        # Guards what follows; held for moments. Never call a backing while holding it.
        self._lock = Lock()
        # Bytes of the file that are locked for this pool.
        self._bytes: set[int] = set()
        # Connections that are being opened or closed.
        self._under_way: WeakSet[Slot] = WeakSet()
        # Slots for connections that workers are about to open, and since when.
        self._expected, self._expected_at = 0, 0.0

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def used(self) -> int:
        """How many slots it needs now."""
        return len(self._open_connections()) + len(self._under_way)

    @property
    def under_way(self) -> int:
        """How many connections are being opened or closed."""
        return len(self._under_way)

    @property
    def spare(self) -> int:
        """How many slots it has for connections that nobody is about to open."""
        return len(self._bytes) - self.used - self._expected

    def use_spare(self) -> Slot | None:
        """Return a slot for a connection to be opened, if there is one. A borrower may call it."""
        with self._lock:
            if len(self._bytes) <= self.used:
                return None
            slot = Slot()
            self._under_way.add(slot)
            self._expected = max(0, self._expected - 1)
            return slot

    def settle(self, slot: Slot) -> None:
        """Note that the connection was opened, or couldn't be. A borrower may call it."""
        with self._lock:
            self._under_way.discard(slot)

    def expect(self, connections: int) -> None:
        """Keep slots for connections that workers were told to open."""
        self._expected, self._expected_at = connections, monotonic()

    def take(self, file: SlotFile, limit: int) -> bool:
        """Take a slot if one is free; tell whether one was."""
        # Locks above the limit: the budget was lowered, and more slots than that are still taken.
        if file.is_locked(limit, MEMBERS - limit):
            return False
        return self._add(free_bytes(file, 0, limit))

    def _add(self, found: Iterable[int]) -> bool:
        byte = next(iter(found), None)
        if byte is None:
            return False
        with self._lock:
            self._bytes.add(byte)
        return True

    def take_again(self, file: SlotFile) -> None:
        """In a file that was made anew, take slots for what is open, even beyond the limit."""
        with self._lock:
            self._bytes = set()
            used = self.used
        for _ in range(used):
            self._add(free_bytes(file, 0, MEMBERS))

    def let_go(self, file: SlotFile, limit: int) -> None:
        """Let others have the slots that aren't needed."""
        if monotonic() - self._expected_at > _EXPECTED:
            self._expected = 0  # the workers are gone
        while True:
            with self._lock:
                if self.spare <= 0:
                    break
                byte = max(self._bytes)
                self._bytes.discard(byte)
            file.unlock(byte)
        # Slots above the limit keep others from taking any: exchange them for free lower ones.
        for byte in sorted(self._bytes, reverse=True):
            if byte < limit or not self._add(free_bytes(file, 0, limit)):
                break
            with self._lock:
                self._bytes.discard(byte)
            file.unlock(byte)

    def close(self, connections: Collection[Connection], ended: Callable[[], None]) -> None:
        """Close connections; each keeps its slot until its session has ended.

        `ended` is called after each.
        """
        ending = [Slot() for _ in connections]
        with self._lock:
            self._under_way.update(ending)
        for _ in closed_one_by_one(connections):
            self.settle(ending.pop())
            ended()
