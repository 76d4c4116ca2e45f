"""A pool's membership in a budget: its place in the file, and how members wake each other.

A datagram on a member's socket says: look at the records. A dead member has no lock on its byte;
the next member with its index replaces the socket that it left.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic, sleep
from weakref import WeakSet

from ..process import fork
from .place import Place
from .records import Record, read_records
from .slots import MEMBERS, MOST_MEMBERS, free_bytes, slot_file

# Seconds for which a joining member waits for members of a file that somebody has deleted.
_COME_OVER = 1.0


class Membership:
    """One pool's membership. Raises `OSError` if the folder or the file can't be used."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # Kept, because finding out whether the folder can be used takes a while.
        self._prefix = place.prefix()
        self.file = slot_file(place.file())
        self.file.make_anew_if_gone()
        self.generation = self.file.generation
        # Sends only, without blocking: waking another member must not wait.
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Before it has a name: a child that is forked meanwhile must not keep that taken.
        _memberships.add(self)
        self.index = -1
        try:
            self.index = self._free_index()
            self._bind()
        except BaseException:
            self.close()
            if self.index >= 0:
                self.file.unlock(MEMBERS + self.index)
            raise

    def _free_index(self) -> int:
        for byte in free_bytes(self.file, MEMBERS, MOST_MEMBERS):
            if not self.wake(byte - MEMBERS):
                return byte - MEMBERS
            # The socket belongs to a member of a deleted file, which will come over.
            self.file.unlock(byte)
        raise OSError(f"{self.file.path} has {MOST_MEMBERS} members already")

    def _bind(self) -> None:
        path = self._path(self.index)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._socket.bind(path)

    def leave(self) -> None:
        """Give up the place."""
        with suppress(OSError):
            os.unlink(self._path(self.index))
        with suppress(OSError):
            self.file.unlock(MEMBERS + self.index)
        self.close()

    def close(self) -> None:
        """Close only the sockets: the place is the parent's (in a forked child), or is lost."""
        self._socket.close()
        self._sender.close()

    def is_lost(self) -> bool:
        """Tell whether the file was deleted, so that this is no longer a member of anything."""
        socket_is_gone = not os.path.exists(self._path(self.index))
        if socket_is_gone:
            self._place.folder()  # it may be gone, too; this makes it again
        self.file.make_anew_if_gone()
        if self.file.generation != self.generation:
            return True
        if socket_is_gone:
            self._socket.close()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._bind()
        return False

    def wait_for_stragglers(self) -> None:
        """Wait until members of a deleted file have come over, as they do when woken."""
        deadline = monotonic() + _COME_OVER
        while (
            any(self._is_straggler(index) for index in self._sockets()) and monotonic() < deadline
        ):
            sleep(0.005)

    def _sockets(self) -> list[int]:
        folder, prefix = os.path.split(self._prefix)
        names = os.listdir(folder)
        found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return [int(index) for index in found if index.isdecimal()]

    def _is_straggler(self, index: int) -> bool:
        return not self.file.is_locked(MEMBERS + index) and self.wake(index)

    def _path(self, index: int) -> str:
        return f"{self._prefix}{index}"

    def wake(self, index: int) -> bool:
        """Wake a member; tell whether it exists."""
        try:
            self._sender.sendto(b"!", self._path(index))
        except BlockingIOError:
            pass  # enough is waiting to wake it
        except OSError:
            return False
        return True

    def wake_others(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.index != self.index:
                self.wake(record.index)

    def wait(self, seconds: float) -> None:
        """Wait until somebody wakes this member, or that many seconds have passed."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1)
            self._socket.settimeout(0)
            while self._socket.recv(1):
                pass
        except (TimeoutError, BlockingIOError):
            pass

    def records(self) -> list[Record]:
        """Return the records of all members, including this one."""
        return read_records(self.file)

    def tell(self, record: Record) -> None:
        self.file.write(record.pack(), record.place)


# Of this process; a child closes them.
_memberships: WeakSet[Membership] = WeakSet()


def _forget_in_child() -> None:
    for membership in list(_memberships):
        membership.close()
    _memberships.clear()


fork.on_fork(_forget_in_child)
