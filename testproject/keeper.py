"""Decides how long a server lives: as long as a process that uses it, and no longer.

Knows locks and one watching process; the caller knows what to stop, and how.

Everything rests on `flock`: the kernel drops a process's lock however the process ends, and a
forked child shares its parent's lock, so the lock lasts until the last of the family is gone.

- `users.lock`: shared by all users of the folder. The watcher waits for it exclusively; whoever
  has it exclusively is alone and may stop the server, and newcomers wait until that is done.
- `watcher.lock`: held by the watcher as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Hold:
    """One process's use of a folder's server, until `release` or the end of the process."""

    def __init__(self, folder: Path, watcher: Sequence[str], cwd: Path) -> None:
        """`watcher` is a command that calls `watch`; a lock's number is appended to it."""
        self._folder = folder
        self._pid = os.getpid()
        # Waits here while a server is being stopped.
        self._users = _open_lock(folder / "users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        self._ensure_watcher(watcher, cwd)

    def release(self, stop: Callable[[], None]) -> None:
        """Give up the use; if it was the last one, `stop` is called, and newcomers wait for that.

        Does nothing in a forked child: the use is its parent's.
        """
        if self._users < 0 or self._pid != os.getpid():
            return
        # Closed, not unlocked: forked children may still use the server through this lock.
        os.close(self._users)
        self._users = -1
        with _opened_lock(self._folder / "users.lock") as users:
            if _try_lock(users, fcntl.LOCK_EX):
                stop()
            elif not _try_lock(users, fcntl.LOCK_SH):
                # Neither alone nor among users: somebody is stopping the server. Wait for it.
                fcntl.flock(users, fcntl.LOCK_SH)

    def _ensure_watcher(self, command: Sequence[str], cwd: Path) -> None:
        with _opened_lock(self._folder / "watcher.lock") as lock:
            if _try_lock(lock, fcntl.LOCK_EX):
                # The watcher inherits the lock, so there is no moment without a holder.
                subprocess.run(
                    [*command, str(lock)],
                    pass_fds=[lock],
                    cwd=cwd,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    check=True,
                )


def watch(folder: Path, watcher_lock: int, stop: Callable[[], None]) -> None:
    """Become a daemon that calls `stop` as soon as nobody uses the folder's server."""
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with _opened_lock(folder / "users.lock") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        stop()
        # Close this one first: a newcomer that gets past users.lock must not rely on this watcher.
        os.close(watcher_lock)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file exclusively; waits for it if needed."""
    with _opened_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened_lock(path: Path) -> Iterator[int]:
    lock = _open_lock(path)
    try:
        yield lock
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
