"""Tells dead processes' sockets from live ones, and removes them; sends no requests."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from time import time

# A socket without its final name after this many seconds was left by a dead process.
UNFINISHED_SECONDS = 60.0

_NAME = re.compile(r"([0-9]{1,9})-[0-9a-f]+\.(sock|new)")


def sockets(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the process id and path of each file that is named like an endpoint's socket.

    Removes what was left by processes that died while they started.
    """
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        if match[2] == "sock":
            yield int(match[1]), path
        else:
            _remove_if_old(path)


def is_gone(path: Path) -> bool:
    """Tell whether nobody listens here any more; if so, the file is removed, too.

    Raises `OSError` if that can't be found out.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            # An endpoint listens before its socket gets its name, so its process is dead.
            path.unlink(missing_ok=True)
            return True
        except FileNotFoundError:
            return True
        except BlockingIOError:
            pass  # it listens, but is too busy
    return False


def sweep(folder: Path) -> None:
    """Remove the sockets of processes that died without notice. Raises `OSError`."""
    for pid, path in sockets(folder):
        # Leaves live ones alone. That no such process exists here doesn't suffice: it may run in
        # another container.
        if path.is_socket() and not _exists(pid):
            is_gone(path)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # exists, but isn't ours
    return True


def _remove_if_old(path: Path) -> None:
    try:
        if path.is_socket() and time() - path.lstat().st_mtime > UNFINISHED_SECONDS:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # it was renamed meanwhile
