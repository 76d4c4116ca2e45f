"""Owns asking the pools' servers for a sign of life, for who has to know now; judges nothing.

Over connections beyond `max_size`, one at a time in a process: an exhausted pool must not keep
anybody from asking, nor may strangers who ask cost the server more than that.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from weakref import WeakKeyDictionary

import psycopg
from django.core.exceptions import ImproperlyConfigured

from ..pooling import registry
from ..pooling.pool import Pool
from ..pooling.process.locks import Lock
from .server import one_line

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
# For the answers of all servers together.
PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: nothing wrong, or an error. `at` is a `time.monotonic()` reading."""

    error: BaseException | None
    at: float


class _Question:
    """One that is to be put to a server, or is being put."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.answer: Answer | None = None
        self._overdue_at = monotonic() + PATIENCE_SECONDS
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def put(self) -> None:
        error: BaseException | None = None
        try:
            self.pool.ask_server(PATIENCE_SECONDS)
        except BaseException as ex:  # of the site's engine or credentials, whatever it is
            error = ex.with_traceback(None)  # it is kept, and would keep what its frames have
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        self.answer = Answer(error, monotonic())
        self._is_over.release()

    def awaited(self) -> Answer:
        """Return the answer, or that it takes too long."""
        if self._is_over.acquire(timeout=max(0.0, self._overdue_at - monotonic())):
            self._is_over.release()
        return self.answer or Answer(TimeoutError(), monotonic())


class Asking:
    """What the servers said last."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew. In a forked child the lock may be held, and the thread is gone."""
        # Guards what follows.
        self._lock = Lock()
        self._answers: WeakKeyDictionary[Pool, Answer] = WeakKeyDictionary()
        self._asked: dict[Pool, _Question] = {}
        # Those of them whose turn is yet to come.
        self._queue: deque[_Question] = deque()
        # None when it has nothing more to ask.
        self._thread: threading.Thread | None = None

    def last(self, pool: Pool) -> Answer | None:
        """Return what the server said last, however long ago; `None`: it wasn't asked."""
        with self._lock:
            return self._answers.get(pool)

    def ask(self, pool: Pool) -> None:
        """Ask the server in the background, unless it has answered within `FRESH_SECONDS`."""
        self._question(pool)

    def answers(self, pools: Iterable[Pool]) -> dict[Pool, Answer]:
        """Return what the servers say; those that said it within `FRESH_SECONDS` aren't asked again.

        Waits `PATIENCE_SECONDS` at most; one that has not answered by then has a `TimeoutError`.
        """
        asked = [(pool, self._question(pool)) for pool in pools]
        return {
            pool: found.awaited() if isinstance(found, _Question) else found
            for pool, found in asked
        }

    def _question(self, pool: Pool) -> _Question | Answer:
        with self._lock:
            answer = self._answers.get(pool)
            if answer is not None and monotonic() - answer.at < FRESH_SECONDS:
                return answer
            question = self._asked.get(pool)
            if question is None:
                question = self._asked[pool] = _Question(pool)
                self._queue.append(question)
            refused = self._ensure_running()
        if refused is not None:
            while (each := self._next()) is not None:
                each.end(refused)
                self._note(each)
        return question

    def _ensure_running(self) -> RuntimeError | None:
        # With the lock. Not by a flag: an interrupt may have come between that and the start.
        if self._thread is not None and self._thread.is_alive():
            return None
        self._thread = threading.Thread(
            target=self._run, name="django_pooled_pg-asking", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as ex:  # the system has no more threads
            return ex
        return None

    def _run(self) -> None:
        while (question := self._next()) is not None:
            question.put()
            self._note(question)

    def _next(self) -> _Question | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._thread = None
            return None

    def _note(self, question: _Question) -> None:
        pool, answer = question.pool, question.answer
        assert answer is not None
        with self._lock:
            before = self._answers.get(pool)
            self._answers[pool] = answer
            self._asked.pop(pool, None)
        # Not each time: somebody asks every few seconds.
        if answer.error is not None and (before is None or before.error is None):
            logger.warning(
                "Pool %r: its server gives no answer: %s", pool.name, _said(answer.error)
            )


def _said(error: BaseException) -> str:
    # What others raise may hold a secret.
    is_safe = isinstance(error, (psycopg.Error, ImproperlyConfigured, TimeoutError, RuntimeError))
    return one_line(error) if is_safe else type(error).__name__


asking = Asking()
registry.on_fork(asking.forget)
