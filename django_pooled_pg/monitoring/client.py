"""Asks all live processes of this project for their snapshots, or to do something.

Must not trust the answers, nor let a silent process hold it up. Opens no pool.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from ..runtime_dir import runtime_dir
from . import leftovers
from .report import ProcessReport, checked
from .wire import MAX_ANSWER_BYTES, bounded, set_deadline, stranger

logger = logging.getLogger(__name__)

# Threads that ask. Each takes a file descriptor, and the site needs some, too.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One process's answer: either a result or an error."""

    pid: int
    result: dict[str, Any] | None = None
    error: str | None = None


def collect(timeout: float = 1.0, holders: int = 0) -> list[ProcessReport]:
    """Ask all live processes at once for their snapshots; sorted by process id.

    See `ask` and `process_snapshot` for the arguments and errors.
    """
    return [_report(answer) for answer in ask({"request": "snapshot", "holders": holders}, timeout)]


def _report(answer: Answer) -> ProcessReport:
    if answer.result is None:
        return ProcessReport(pid=answer.pid, error=answer.error)
    try:
        return ProcessReport(pid=answer.pid, snapshot=checked(answer.result))
    except ValueError as ex:
        return ProcessReport(pid=answer.pid, error=f"invalid answer: {ex}")


def ask(request: dict[str, Any], timeout: float = 1.0, pid: int | None = None) -> list[Answer]:
    """Ask all live processes at once, for `timeout` seconds altogether; sorted by process id.

    With `pid`, only that process. A process that doesn't answer in time, or not sensibly, is
    reported with an `error`. Removes what dead processes left behind. Raises `RuntimeDirError`.
    """
    deadline = monotonic() + timeout
    line = json.dumps(request).encode() + b"\n"
    found = [each for each in _sockets(runtime_dir()) if pid is None or each[0] == pid]

    def ask_one(process: tuple[int, Path]) -> Answer | None:
        try:
            return _ask(*process, line, deadline)
        except TimeoutError:
            return Answer(pid=process[0], error=f"no answer within {timeout:g} s")

    with ThreadPoolExecutor(_AT_ONCE, "poolstats") as executor:
        answers = [answer for answer in executor.map(ask_one, found) if answer is not None]
    return sorted(answers, key=lambda answer: answer.pid)


def _sockets(folder: Path) -> list[tuple[int, Path]]:
    found = []
    for pid, path in leftovers.sockets(folder):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # its process has just ended
        if stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid():
            found.append((pid, path))
        else:
            logger.warning("Not asked, since it is not a socket of this user: %s", path)
    return found


def _ask(pid: int, path: Path, line: bytes, deadline: float) -> Answer | None:
    """Ask one process; `None`: it no longer exists. Raises `TimeoutError`."""
    try:
        return Answer(pid=pid, result=_read_answer(_exchange(path, line, deadline)))
    except FileNotFoundError:
        return None
    except ConnectionError:
        # Refused, or no answer. Has the process ended, now or long ago?
        try:
            if leftovers.is_gone(path):
                return None
            error = "closed the connection without an answer"
        except OSError as ex:
            error = f"can't be asked: {ex.strerror}"
    except BlockingIOError:
        error = "no answer: too many clients wait for it already"
    except TimeoutError:
        raise
    except OSError as ex:
        error = f"can't be asked: {ex.strerror}"
    except (ValueError, RecursionError) as ex:
        error = f"invalid answer: {ex}"
    return Answer(pid=pid, error=error)


def _exchange(path: Path, line: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        set_deadline(asked, deadline)
        asked.connect(os.fspath(path))
        if (uid := stranger(asked)) is not None:
            raise PermissionError(errno.EPERM, f"user {uid} listens there")
        asked.sendall(line)
        answer = b""
        while not answer.endswith(b"\n"):
            set_deadline(asked, deadline)
            received = asked.recv(65536)
            if not received:
                raise ConnectionError
            answer += received
            if len(answer) > MAX_ANSWER_BYTES:
                raise ValueError(f"more than {MAX_ANSWER_BYTES} bytes")
    return answer


def _read_answer(line: bytes) -> dict[str, Any]:
    # Raises ValueError; json's own error is one, too.
    answer = bounded(json.loads(line))
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    if answer.get("ok") is not True:
        raise ValueError(str(answer.get("error")))
    result = answer.get("result")
    if not isinstance(result, dict):
        raise ValueError("its result is not a JSON object")
    return result
