"""Owns who is at the other end of a Unix socket; both ends ask before they say anything."""

from __future__ import annotations

import os
import socket
import struct


def stranger(connected: socket.socket) -> int | None:
    """Return the user at the other end, if it is neither this process' nor root; else `None`.

    The runtime folder keeps others out already; this is for one that was opened later, or swapped.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return None if uid in (os.geteuid(), 0) else int(uid)
