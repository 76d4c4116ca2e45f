"""Asks the pools' servers for a sign of life, for those who need to know now; judges nothing.

Uses connections beyond `max_size`, one at a time per process: an exhausted pool must not prevent
the question, and strangers who ask must not cost the server more than that.
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
    """The outcome of asking: `None` or an error. `at` is a `time.monotonic()` reading."""

    error: BaseException | None
    at: float


class _Question:
    """A question to one server, waiting for its turn or under way."""

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
        except BaseException as ex:  # the site's engine or credentials may raise anything
            error = ex.with_traceback(None)  # we keep it, and its frames would keep their variables
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        self.answer = Answer(error, monotonic())
        self._is_over.release()

    def awaited(self) -> Answer:
        """Return the answer, or a `TimeoutError` if it takes too long."""
        if self._is_over.acquire(timeout=max(0.0, self._overdue_at - monotonic())):
            self._is_over.release()
        return self.answer or Answer(TimeoutError(), monotonic())


class Asking:
    """The servers' latest answers."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew. In a forked child the lock may be held, and the thread doesn't exist."""
        # Guards what follows.
        self._lock = Lock()
        self._answers: WeakKeyDictionary[Pool, Answer] = WeakKeyDictionary()
        self._asked: dict[Pool, _Question] = {}
        # Those whose turn is yet to come.
        self._queue: deque[_Question] = deque()
        # None when nothing more is to be asked.
        self._thread: threading.Thread | None = None

    def last(self, pool: Pool) -> Answer | None:
        """Return the server's latest answer, however old; `None`: it was never asked."""
        with self._lock:
            return self._answers.get(pool)

    def ask(self, pool: Pool) -> None:
        """Ask the server in the background, unless it answered within the last `FRESH_SECONDS`."""
        self._question(pool)

    def answers(self, pools: Iterable[Pool]) -> dict[Pool, Answer]:
        """Return the servers' answers; asks only those with none from the last `FRESH_SECONDS`.

        Waits at most `PATIENCE_SECONDS`; a server that hasn't answered by then gets a
        `TimeoutError`.
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
        # With the lock held. No flag: an interrupt may come between setting it and the start.
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
        # Not each time: readiness probes ask every few seconds.
        if answer.error is not None and (before is None or before.error is None):
            logger.warning(
                "Pool %r: its server gives no answer: %s", pool.name, _said(answer.error)
            )


def _said(error: BaseException) -> str:
    # Errors from other code may hold a secret.
    is_safe = isinstance(error, (psycopg.Error, ImproperlyConfigured, TimeoutError, RuntimeError))
    return one_line(error) if is_safe else type(error).__name__


asking = Asking()
registry.on_fork(asking.forget)
