"""The gate of one pool: while it is closed, whoever wants a connection waits in front of it."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic


class Gate:
    """Initially open. Any method may be called from any thread."""

    def __init__(self) -> None:
        # One lock per waiter, not a threading.Event: an interrupt may leave an Event locked while
        # somebody waits for it. A deque's operations are atomic.
        self._waiting: deque[threading.Lock] = deque()
        self._open = True
        self._closed_at = 0.0

    def is_open(self) -> bool:
        return self._open

    def closed_for(self) -> float:
        """Return for how many seconds it has been closed; 0 if it is open."""
        return 0.0 if self._open else monotonic() - self._closed_at

    @property
    def waiting(self) -> int:
        """How many borrowers wait."""
        return len(self._waiting)

    def pass_through(self, timeout: float) -> bool:
        """Wait until it is open, at most `timeout` seconds; tell whether it opened."""
        if self.is_open():
            return True
        turn = threading.Lock()
        turn.acquire()
        try:
            self.enter(turn)
            # It may have opened meanwhile, perhaps just before the line above.
            return self.is_open() or turn.acquire(timeout=max(0.0, timeout))
        finally:
            if turn in self._waiting:
                self.leave(turn)

    def enter(self, turn: threading.Lock) -> None:
        """Count a borrower as waiting; opening releases its `turn`."""
        self._waiting.append(turn)

    def leave(self, turn: threading.Lock) -> None:
        """Stop counting it."""
        try:
            self._waiting.remove(turn)
        except ValueError:
            pass  # open() let it through just now

    def close(self) -> None:
        """Let nobody through from now on. Closing or opening it twice is harmless."""
        if self._open:
            self._closed_at = monotonic()
            self._open = False

    def open(self) -> None:
        """Let all waiters through, in the order in which they came."""
        self._open = True
        while self._waiting:
            try:
                self._waiting.popleft().release()
            except IndexError:
                return  # the last one left by itself
