"""Owns asking all live processes of this project for their snapshots.

Must not trust the answers, nor be held up by a process that doesn't give one. Opens no pool.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import stat
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from time import monotonic
from typing import Any

from ..pooling.statistics import PoolStatistics
from . import leftovers
from .runtime_dir import runtime_dir

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1024 * 1024

_REQUEST = b'{"request":"snapshot"}\n'
_VERSION = 1
_POOL_FIELDS = [field.name for field in fields(PoolStatistics)]
_NUMBERS = [field.name for field in fields(PoolStatistics) if field.type in ("int", "float")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """What one process said: either its snapshot (see `process_snapshot`) or an error."""

    pid: int
    snapshot: dict[str, Any] | None = None
    error: str | None = None


def collect(timeout: float = 1.0) -> list[ProcessReport]:
    """Ask all live processes at once, for `timeout` seconds in all; sorted by process id.

    A process that doesn't answer in time, or not sensibly, is reported with an `error`. What
    dead processes left behind is removed. Raises `RuntimeDirError`.
    """
    deadline = monotonic() + timeout
    reports = []
    # A thread for each process would do as well; here any number of them can hang.
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for pid, path in _sockets(runtime_dir()):
            question = _Question(pid, path)
            stack.callback(question.close)
            if question.ask():
                selector.register(question.socket, selectors.EVENT_READ, question)
            elif question.error:
                reports.append(question.report())
        while selector.get_map() and (remaining := deadline - monotonic()) > 0:
            for key, _ in selector.select(remaining):
                question = key.data
                if question.receive():
                    selector.unregister(question.socket)
                    if not question.died:
                        reports.append(question.report())
        reports += [
            ProcessReport(pid=key.data.pid, error=f"not answering within {timeout:g} s")
            for key in selector.get_map().values()
        ]
    return sorted(reports, key=lambda report: report.pid)


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


class _Question:
    """One process that is asked."""

    def __init__(self, pid: int, path: Path) -> None:
        self.pid = pid
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.died = False
        self.error: str | None = None
        self._answer = b""

    def close(self) -> None:
        self.socket.close()

    def ask(self) -> bool:
        """Send the request. False: there is no process, or `error` says why there's no answer."""
        try:
            self.socket.connect(os.fspath(self.path))
            # Whole and at once: it is small, and the socket's buffer is empty.
            self.socket.send(_REQUEST)
        except FileNotFoundError:
            self.died = True
        except ConnectionError:
            self._hung_up()
        except BlockingIOError:
            self.error = "not answering: too many wait for it already"
        except OSError as ex:
            self.error = f"can't be asked: {ex.strerror}"
        return not self.died and self.error is None

    def receive(self) -> bool:
        """Take what has come; True when that's all."""
        try:
            received = self.socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            received = b""
        self._answer += received
        if b"\n" in received:
            return True
        if not received:
            self._hung_up()
            return True
        if len(self._answer) > MAX_ANSWER_BYTES:
            self.error = f"answered with more than {MAX_ANSWER_BYTES} bytes"
            return True
        return False

    def report(self) -> ProcessReport:
        if self.error is not None:
            return ProcessReport(pid=self.pid, error=self.error)
        try:
            return ProcessReport(pid=self.pid, snapshot=_read_answer(self._answer))
        except (ValueError, RecursionError) as ex:
            return ProcessReport(pid=self.pid, error=f"answered wrongly: {ex}")

    def _hung_up(self) -> None:
        # Refused, or no answer: because it has ended, now or long ago?
        try:
            self.died = leftovers.is_gone(self.path)
        except OSError as ex:
            self.error = f"can't be asked: {ex.strerror}"
        else:
            if not self.died:
                self.error = "closed the connection without an answer"


def _read_answer(line: bytes) -> dict[str, Any]:
    # Raises ValueError, which json's own error is too.
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    if answer.get("ok") is not True:
        raise ValueError(str(answer.get("error"))[:200])
    snapshot = answer.get("result")
    if not isinstance(snapshot, dict) or not isinstance(snapshot.get("pools"), list):
        raise ValueError("not a snapshot")
    if snapshot.get("version") != _VERSION:
        raise ValueError(
            f"its snapshot has version {str(snapshot.get('version'))[:20]}, not {_VERSION}; "
            "is it of an older release?"
        )
    if not isinstance(snapshot.get("process"), str):
        raise ValueError("'process' is missing")
    for pool in snapshot["pools"]:
        _check_pool(pool)
    return snapshot


def _check_pool(pool: object) -> None:
    if not isinstance(pool, dict):
        raise ValueError("a pool is not a JSON object")
    for name in _POOL_FIELDS:
        if name not in pool:
            raise ValueError(f"a pool without {name!r}")
    for name in _NUMBERS:
        if not isinstance(pool[name], int | float):
            raise ValueError(f"a pool whose {name!r} is not a number")
    for name in ("alias", "name"):
        if not isinstance(pool[name], str):
            raise ValueError(f"a pool whose {name!r} is not a text")
