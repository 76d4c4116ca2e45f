"""The locks of a budget: only the kernel decides who has which slot.

A slot is a POSIX record lock on a byte of a file. The kernel drops it with its process, however
that ends; a forked child doesn't inherit it. But it also drops all locks of a process on a file
when the process closes any descriptor of that file: so it is opened in one place, once, and stays
open.
https://www.man7.org/linux/man-pages/man2/F_SETLK.2const.html
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..process import fork
from ..process.locks import Lock

# Bytes that are locked, far beyond the end of the file: slots from 0 on, then members, and one for
# the member that is giving connections up.
MEMBERS = 1 << 20
MOST_MEMBERS = 4096
_GIVING = 1 << 21

# The kernel's `struct flock`: type, whence, start, length, process; on systems other than Linux,
# start, length, process, type, whence.
_ON_LINUX = sys.platform == "linux"
_FLOCK = struct.Struct("@hhqqi0q" if _ON_LINUX else "@qqihh")


class SlotFile:
    """The file of one budget, as this process has it. Raises `OSError` if it can't be used.

    Any method may be called from any thread. `generation` changes when the file was deleted and
    made anew: then this process has no lock on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        # Guards what follows.
        self._lock = Lock()
        self._descriptor = self._open()
        # The bytes that this process has locked: to the kernel, they are free for this process.
        self._locked: set[int] = set()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.path, flags, 0o600)

    def lock(self, byte: int) -> bool:
        """Lock a byte if it is free; tell whether it was."""
        with self._lock:
            if byte in self._locked:
                return False
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: somebody has it
                return False
            self._locked.add(byte)
            return True

    def unlock(self, byte: int) -> None:
        with self._lock:
            if byte in self._locked:
                self._locked.discard(byte)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)

    def lock_giving(self) -> bool:
        """Become the member that gives connections up, unless another is; only for a moment."""
        return self.lock(_GIVING)

    def unlock_giving(self) -> None:
        self.unlock(_GIVING)

    def is_locked(self, start: int, length: int = 1) -> bool:
        """Tell whether somebody has locked one of these bytes."""
        with self._lock:
            return self._is_locked_here(start, length) or self._is_locked_by_others(start, length)

    def _is_locked_here(self, start: int, length: int) -> bool:
        return any(start <= byte < start + length for byte in self._locked)

    def _is_locked_by_others(self, start: int, length: int) -> bool:
        write = fcntl.F_WRLCK
        asked = (write, 0, start, length, 0) if _ON_LINUX else (start, length, 0, write, 0)
        said = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, _FLOCK.pack(*asked)))
        return bool(said[0 if _ON_LINUX else 3] != fcntl.F_UNLCK)

    def read(self, length: int) -> bytes:
        """Return the beginning of the file."""
        with self._lock:
            return os.pread(self._descriptor, length, 0)

    def write(self, data: bytes, offset: int) -> None:
        with self._lock:
            os.pwrite(self._descriptor, data, offset)

    def make_anew_if_gone(self) -> None:
        """Make the file again if somebody deleted it, as cleaners of temporary folders do."""
        with self._lock:
            ours = os.fstat(self._descriptor)
            try:
                if os.path.samestat(ours, os.stat(self.path, follow_symlinks=False)):
                    return
            except FileNotFoundError:
                pass
            gone, self._descriptor = self._descriptor, self._open()
            os.close(gone)  # another file: closing it drops no lock of the new one
            self._locked.clear()
            self.generation += 1

    def forget_inherited(self) -> None:
        """In a forked child: close the file, which drops no lock of the parent's."""
        # No lock: this is the child's only thread.
        with suppress(OSError):
            os.close(self._descriptor)


# Guards what follows. A file is opened once: see above.
_lock = Lock()
_files: dict[Path, SlotFile] = {}


def slot_file(path: Path) -> SlotFile:
    """Return the file at `path`; makes it if needed. Raises `OSError`."""
    with _lock:
        if path not in _files:
            _files[path] = SlotFile(path)
        return _files[path]


def free_bytes(file: SlotFile, start: int, count: int) -> Iterator[int]:
    """Lock and yield free bytes, one each time another is asked for."""
    for byte in range(start, start + count):
        if file.lock(byte):
            yield byte


def _forget_in_child() -> None:
    global _lock
    _lock = Lock()
    for file in _files.values():
        file.forget_inherited()
    _files.clear()


fork.on_fork(_forget_in_child)
