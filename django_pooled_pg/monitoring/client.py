"""Owns asking all live processes of this project: for their snapshots, or to do something.

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
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from . import leftovers
from .bounds import MAX_ANSWER_BYTES, bounded
from .peer import stranger
from .report import ProcessReport, checked
from .runtime_dir import runtime_dir

logger = logging.getLogger(__name__)

# Sockets open at a time: each takes a file descriptor, of which the site needs some, too.
_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one process said to whatever was asked: either a result or an error."""

    pid: int
    result: dict[str, Any] | None = None
    error: str | None = None


def collect(timeout: float = 1.0, holders: int = 0) -> list[ProcessReport]:
    """Ask all live processes at once for their snapshots; sorted by process id.

    See `ask` and `process_snapshot` for the arguments, and for what is raised.
    """
    return [_report(answer) for answer in ask({"request": "snapshot", "holders": holders}, timeout)]


def _report(answer: Answer) -> ProcessReport:
    if answer.result is None:
        return ProcessReport(pid=answer.pid, error=answer.error)
    try:
        return ProcessReport(pid=answer.pid, snapshot=checked(answer.result))
    except ValueError as ex:
        return ProcessReport(pid=answer.pid, error=f"answered wrongly: {ex}")


def ask(request: dict[str, Any], timeout: float = 1.0, pid: int | None = None) -> list[Answer]:
    """Ask all live processes at once, for `timeout` seconds in all; sorted by process id.

    With `pid`, that process only. A process that doesn't answer in time, or not sensibly, is
    reported with an `error`. What dead processes left behind is removed. Raises `RuntimeDirError`.
    """
    deadline = monotonic() + timeout
    line = json.dumps(request).encode() + b"\n"
    to_ask = [
        _Question(owner, path, line)
        for owner, path in _sockets(runtime_dir())
        if pid is None or owner == pid
    ]
    asked = list(to_ask)
    # A thread for each process would do as well; here any number of them can hang.
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for question in asked:
            stack.callback(question.close)
        while True:
            while to_ask and len(selector.get_map()) < _AT_ONCE:
                question = to_ask.pop()
                if question.ask():
                    selector.register(question, selectors.EVENT_READ, question)
            if not selector.get_map() or (remaining := deadline - monotonic()) <= 0:
                break
            for key, _ in selector.select(remaining):
                if key.data.receive():
                    selector.unregister(key.data)
                    key.data.close()
    for question in asked:
        if not question.is_over:
            did = "answering" if question.socket is not None else "asked"
            question.fail(f"not {did} within {timeout:g} s")
    answers = [question.answer() for question in asked if not question.died]
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


class _Question:
    """One process that is asked."""

    def __init__(self, pid: int, path: Path, line: bytes) -> None:
        self.pid = pid
        self._path = path
        self._line = line
        self._error: str | None = None
        self._answer = b""
        self.socket: socket.socket | None = None
        self.died = False
        self.is_over = False

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()

    def fileno(self) -> int:
        assert self.socket is not None
        return self.socket.fileno()

    def fail(self, error: str) -> None:
        self._error, self.is_over = error, True

    def ask(self) -> bool:
        """Send the request. False: it is over, since there is no process or no way to ask it."""
        try:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.setblocking(False)
            self.socket.connect(os.fspath(self._path))
            if (uid := stranger(self.socket)) is not None:
                self.fail(f"not asked: user {uid} listens there")
            else:
                # Whole and at once: it is small, and the socket's buffer is empty.
                self.socket.send(self._line)
        except FileNotFoundError:
            self.died = self.is_over = True
        except ConnectionError:
            self._hung_up()
        except BlockingIOError:
            self.fail("not answering: too many wait for it already")
        except OSError as ex:
            self.fail(f"can't be asked: {ex.strerror}")
        if self.is_over:
            self.close()
        return not self.is_over

    def receive(self) -> bool:
        """Take what has come; True when that's all."""
        assert self.socket is not None
        try:
            received = self.socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            received = b""
        self._answer += received
        if b"\n" in received:
            self.is_over = True
        elif not received:
            self._hung_up()
        elif len(self._answer) > MAX_ANSWER_BYTES:
            self.fail(f"answered with more than {MAX_ANSWER_BYTES} bytes")
        return self.is_over

    def answer(self) -> Answer:
        if self._error is not None:
            return Answer(pid=self.pid, error=self._error)
        try:
            return Answer(pid=self.pid, result=_read_answer(self._answer))
        except (ValueError, RecursionError) as ex:
            return Answer(pid=self.pid, error=f"answered wrongly: {ex}")

    def _hung_up(self) -> None:
        # Refused, or no answer: because it has ended, now or long ago?
        self.is_over = True
        self.close()
        try:
            self.died = leftovers.is_gone(self._path)
        except OSError as ex:
            self.fail(f"can't be asked: {ex.strerror}")
        else:
            if not self.died:
                self.fail("closed the connection without an answer")


def _read_answer(line: bytes) -> dict[str, Any]:
    # Raises ValueError, which json's own error is too.
    answer = bounded(json.loads(line))
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    if answer.get("ok") is not True:
        raise ValueError(str(answer.get("error")))
    result = answer.get("result")
    if not isinstance(result, dict):
        raise ValueError("its result is not a JSON object")
    return result
