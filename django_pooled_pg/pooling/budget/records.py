"""What the members of a budget tell each other in its file: one record each.

Records are hints by which members decide who gives connections up to whom; the locks say who has
a slot. A record counts as long as its member's byte is locked, so a dead process's says nothing.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field

from .slots import MEMBERS, MOST_MEMBERS, SlotFile

_LAYOUT = struct.Struct("<4s7IQ4d32s32s")
_MAGIC = b"dpg1"
# A member that hasn't written for this many seconds is stopped or starved: it wants nothing.
FRESH = 2.0


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What one member has and wants. Times are `time.monotonic()` readings, which a host shares."""

    index: int
    pid: int = field(default_factory=os.getpid)
    # The budget according to this member's settings.
    limit: int
    min_size: int
    # Slots it has, and how many of their connections are lent.
    held: int = 0
    busy: int = 0
    # Slots it could use at once, and since when.
    wanted: int = 0
    since: float = 0.0
    # Connections that it will give up on their return.
    promised: int = 0
    # Connections that it has given up to others.
    given: int = 0
    # When it last got a slot that it had to wait for.
    got_at: float = 0.0
    # When this was written, and when it last asked how full the server is.
    seen: float = 0.0
    looked_at: float = 0.0
    process: str = ""
    host: str = field(default_factory=socket.gethostname)

    def pack(self) -> bytes:
        numbers = (self.limit, self.min_size, self.held, self.busy, self.wanted, self.promised)
        times = (self.since, self.got_at, self.seen, self.looked_at)
        texts = (self.process.encode()[:32], self.host.encode()[:32])
        return _LAYOUT.pack(_MAGIC, self.pid, *numbers, self.given, *times, *texts)

    @property
    def place(self) -> int:
        """Its position in the file."""
        return self.index * _LAYOUT.size


def _unpacked(index: int, data: bytes) -> Record | None:
    magic, pid, limit, least, held, busy, wanted, promised, given, *rest = _LAYOUT.unpack(data)
    since, got_at, seen, looked_at, process, host = rest
    if magic != _MAGIC:
        return None
    return Record(
        index=index,
        pid=pid,
        limit=limit,
        min_size=least,
        held=held,
        busy=busy,
        wanted=wanted,
        since=since,
        promised=promised,
        given=given,
        got_at=got_at,
        seen=seen,
        looked_at=looked_at,
        process=_text(process),
        host=_text(host),
    )


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="replace")


def read_records(file: SlotFile) -> list[Record]:
    """Return the records of all living members. Raises `OSError`."""
    data = file.read(MOST_MEMBERS * _LAYOUT.size)
    records = []
    for index in range(len(data) // _LAYOUT.size):
        record = _unpacked(index, data[index * _LAYOUT.size : (index + 1) * _LAYOUT.size])
        if record is not None and file.is_locked(MEMBERS + index):
            records.append(record)
    return records
