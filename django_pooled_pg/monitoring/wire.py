"""What both ends of an endpoint's socket agree on: sizes, strings, deadlines, who may connect."""

from __future__ import annotations

import os
import socket
import struct
from time import monotonic
from typing import Any

from ..pooling.printable import printable

MAX_ANSWER_BYTES = 1024 * 1024
MAX_TEXT = 500  # characters


def bounded(value: Any) -> Any:
    """Return `value`, a JSON value, with every string made printable and cut to `MAX_TEXT`.

    Names of threads, pools and places may be anything: they must neither fill the answer nor reach
    a terminal or a page unchanged.
    """
    if isinstance(value, str):
        return printable(value, MAX_TEXT)
    if isinstance(value, dict):
        return {key: bounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [bounded(each) for each in value]
    return value


def stranger(connected: socket.socket) -> int | None:
    """Return the user at the other end, unless it is this process's user or root (`None`).

    The runtime folder keeps others out already; this is for a folder opened later, or swapped.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return None if uid in (os.geteuid(), 0) else int(uid)


def set_deadline(connected: socket.socket, deadline: float) -> None:
    """Make the next call on the socket raise `TimeoutError` at `deadline` (`time.monotonic()`)."""
    if (remaining := deadline - monotonic()) <= 0:
        raise TimeoutError("too slow")
    connected.settimeout(remaining)
