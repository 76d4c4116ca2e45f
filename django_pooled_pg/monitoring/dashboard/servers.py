"""Owns what this process knows of the servers' side; asks each server now and then only."""

from __future__ import annotations

import threading
from time import monotonic

from ...pooling import registry
from ...pooling.process.locks import Lock
from ..server import ServerSide, server_side

FRESH_SECONDS = 10.0
# An answer that is quick is shown at once; one that isn't, the next time.
PATIENCE_SECONDS = 0.5


class Servers:
    """What the servers said last, by alias."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew. In a forked child the lock may be held, and the threads are gone."""
        self._lock = Lock()
        self._said: dict[str, ServerSide] = {}
        self._asked: dict[str, float] = {}
        self._asking: dict[str, threading.Thread] = {}

    def side(self, alias: str) -> ServerSide | None:
        """Return what the server of `alias` said last, `None` when that is nothing yet.

        It is asked anew when that is older than `FRESH_SECONDS`: in a thread, because a server
        that can't be reached takes its time. Waits `PATIENCE_SECONDS` for it at most.
        """
        with self._lock:
            asking = self._asking.get(alias)
            due = monotonic() - self._asked.get(alias, -FRESH_SECONDS) >= FRESH_SECONDS
            if due and (asking is None or not asking.is_alive()):
                self._asked[alias] = monotonic()
                asking = self._asking[alias] = threading.Thread(
                    target=self._ask, args=[alias], name=f"dashboard-server-{alias}", daemon=True
                )
                asking.start()
        if asking is not None and (due or alias not in self._said):
            asking.join(PATIENCE_SECONDS)
        return self._said.get(alias)

    def _ask(self, alias: str) -> None:
        self._said[alias] = server_side(alias)


servers = Servers()
registry.on_fork(servers.forget)
