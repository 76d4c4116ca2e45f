"""Counts how often a pool's borrowers were stopped."""

from __future__ import annotations

from weakref import WeakSet

from ..process.locks import Lock


class Stops:
    """How often a pool's borrowers were stopped because their work wasn't wanted any more.

    Each piece of work counts once.
    """

    def __init__(self, pool_name: str) -> None:
        self.pool_name = pool_name
        # Guards what follows.
        self._lock = Lock()
        self._counted: WeakSet[object] = WeakSet()
        self.abandoned_waiting = 0
        self.abandoned_working = 0
        self.deadlines = 0

    def note_abandoned(self, work: object, *, waiting: bool) -> None:
        """Note that the client of `work` had gone."""
        with self._lock:
            if self._is_new(work):
                self.abandoned_waiting += waiting
                self.abandoned_working += not waiting

    def note_deadline(self, work: object) -> None:
        """Note that the deadline of `work` had passed."""
        with self._lock:
            self.deadlines += self._is_new(work)

    def _is_new(self, work: object) -> bool:
        is_new = work not in self._counted
        self._counted.add(work)
        return is_new
