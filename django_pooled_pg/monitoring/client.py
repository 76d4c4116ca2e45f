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
from .report import ProcessReport, check_snapshot
from .runtime_dir import runtime_dir

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1024 * 1024


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
        check_snapshot(answer.result)
    except ValueError as ex:
        return ProcessReport(pid=answer.pid, error=f"answered wrongly: {ex}")
    return ProcessReport(pid=answer.pid, snapshot=answer.result)


def ask(request: dict[str, Any], timeout: float = 1.0, pid: int | None = None) -> list[Answer]:
    """Ask all live processes at once, for `timeout` seconds in all; sorted by process id.

    With `pid`, that process only. A process that doesn't answer in time, or not sensibly, is reported with an `error`. What
    dead processes left behind is removed. Raises `RuntimeDirError`.
    """
    deadline = monotonic() + timeout
    answers = []
    line = json.dumps(request).encode() + b"\n"
    # A thread for each process would do as well; here any number of them can hang.
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for owner, path in _sockets(runtime_dir()):
            if pid is not None and owner != pid:
                continue
            question = _Question(owner, path, line)
            stack.callback(question.close)
            if question.ask():
                selector.register(question.socket, selectors.EVENT_READ, question)
            elif question.error:
                answers.append(question.answer())
        while selector.get_map() and (remaining := deadline - monotonic()) > 0:
            for key, _ in selector.select(remaining):
                question = key.data
                if question.receive():
                    selector.unregister(question.socket)
                    if not question.died:
                        answers.append(question.answer())
        answers += [
            Answer(pid=key.data.pid, error=f"not answering within {timeout:g} s")
            for key in selector.get_map().values()
        ]
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
        self.path = path
        self._line = line
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
            self.socket.send(self._line)
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

    def answer(self) -> Answer:
        if self.error is not None:
            return Answer(pid=self.pid, error=self.error)
        try:
            return Answer(pid=self.pid, result=_read_answer(self._answer))
        except (ValueError, RecursionError) as ex:
            return Answer(pid=self.pid, error=f"answered wrongly: {ex}")

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
    result = answer.get("result")
    if not isinstance(result, dict):
        raise ValueError("its result is not a JSON object")
    return result
