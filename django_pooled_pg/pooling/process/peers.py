"""Looks whether a socket's peer has hung up; waits for nothing, and reads nothing."""

from __future__ import annotations

import select
import sys
from typing import Any

# The peer has closed its side; what it sent before doesn't matter.
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


def has_hung_up(socket: int) -> bool:
    """Tell whether the peer of the socket with that number has closed its side, or all of it."""
    poll = _poll()
    poll.register(socket, _GONE)
    return any(events & _GONE for _, events in poll.poll(0))


def _poll() -> Any:
    # gevent's poll only knows reading and writing; and there is nothing to wait for.
    monkey = sys.modules.get("gevent.monkey")
    return select.poll() if monkey is None else monkey.get_original("select", "poll")()
