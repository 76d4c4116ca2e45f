"""Keeps what this process knows of the servers' side; asks each server only now and then."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from time import monotonic

from ...pooling import registry
from ..server import AT_ONCE, ServerSide, server_side

FRESH_SECONDS = 10.0
# Quick answers are shown at once; others, the next time. For all servers together.
PATIENCE_SECONDS = 0.5


class Servers:
    """The servers' latest answers, by alias."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew. In a forked child the lock may be held, and the threads don't exist."""
        # Guards what follows; notified when a server has answered.
        self._answered = threading.Condition()
        self._said: dict[str, ServerSide] = {}
        self._asked_at: dict[str, float] = {}
        # Those to be asked, or being asked; the queue has those whose turn is yet to come.
        self._asking: set[str] = set()
        self._queue: deque[str] = deque()
        self._threads = 0

    def sides(self, aliases: Iterable[str]) -> dict[str, ServerSide]:
        """Return the latest answers of these aliases' servers, without those that have none yet.

        A server whose answer is older than `FRESH_SECONDS` is asked again: in a thread, because one
        that can't be reached takes time. Waits at most `PATIENCE_SECONDS` for all of them together.
        """
        aliases = list(aliases)
        now = monotonic()
        with self._answered:
            asked_at = self._asked_at
            due = {
                alias
                for alias in aliases
                if alias not in self._asking
                and now - asked_at.get(alias, -FRESH_SECONDS) >= FRESH_SECONDS
            }
            for alias in sorted(due):
                asked_at[alias] = now
                self._asking.add(alias)
                self._queue.append(alias)
            for _ in range(min(len(self._queue), AT_ONCE - self._threads)):
                self._threads += 1
                threading.Thread(target=self._work, name="dashboard-server", daemon=True).start()
            unknown = {alias for alias in aliases if alias not in self._said}
            self._answered.wait_for(
                lambda: not (due | unknown) & self._asking, timeout=PATIENCE_SECONDS
            )
            return {alias: self._said[alias] for alias in aliases if alias in self._said}

    def _work(self) -> None:
        while True:
            with self._answered:
                if not self._queue:
                    self._threads -= 1
                    return
                alias = self._queue.popleft()
            side = server_side(alias)
            with self._answered:
                self._said[alias] = side
                self._asking.discard(alias)
                self._answered.notify_all()


servers = Servers()
registry.on_fork(servers.forget)
