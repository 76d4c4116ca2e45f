"""Owns one cancel request to the server, which must never hit a statement of somebody else.

A request says whose statement is meant by naming the session alone, and may arrive when that runs
another one already. So nobody uses the session before the server has answered the request: it
answers by closing the connection that the request came on, when the signal was sent.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import psycopg

from .liveness import ANSWER_LIMIT

logger = logging.getLogger(__name__)

# Seconds until a statement that goes on is canceled again: the first request may have come before
# the server had begun with it.
_AGAIN_AFTER = 0.5
# Seconds to wait for one that is under way. It gives up by itself before.
_LONGEST = ANSWER_LIMIT + 1


class Cancel:
    """One cancel request. It is sent by a thread of its own: a server may let it wait.

    `before` is the one before it for the same statement, if there was one.
    """

    def __init__(self, pool_name: str, before: Cancel | None = None) -> None:
        self._pool_name = pool_name
        self._sent_at = monotonic()
        self._first_sent_at: float = self._sent_at if before is None else before._first_sent_at
        self._was_answered = False
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def send(self, connection: Any, still_runs: Callable[[], bool]) -> None:
        """Send it, in the background.

        `still_runs` tells whether the statement does: one that goes on, be the requests answered or
        not, loses its connection.
        """
        name = "django_pooled_pg-cancel"
        work = partial(self._send, connection, still_runs)
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as ex:  # the system has no more threads, or the process ends
            logger.warning("Pool %r: a statement can't be canceled: %s", self._pool_name, ex)
            self.withdraw()

    def _send(self, connection: Any, still_runs: Callable[[], bool]) -> None:
        try:
            connection.cancel_safe(timeout=ANSWER_LIMIT)
            self._was_answered = True
        except Exception as ex:
            # It may arrive yet: the session isn't lent again.
            logger.warning("Pool %r: a statement can't be canceled: %s", self._pool_name, ex)
        try:
            tried = monotonic() - self._first_sent_at
            if tried >= ANSWER_LIMIT and still_runs():
                # The server doesn't answer, or a pooler hasn't passed the statement on yet.
                logger.warning(
                    "Pool %r: a statement goes on %.1f s after it was canceled; its connection is "
                    "closed",
                    self._pool_name,
                    tried,
                )
                _hang_up(connection)
        finally:
            self._is_over.release()

    def withdraw(self) -> None:
        """End it: it was never sent."""
        self._was_answered = True
        self._is_over.release()

    def was_answered(self) -> bool:
        """Wait until it was, some seconds at most; tell whether it was."""
        if self._is_over.acquire(timeout=_LONGEST):
            self._is_over.release()
        return self._was_answered

    def is_to_be_repeated(self) -> bool:
        """Tell whether its statement, if it runs still, needs another one."""
        return self._was_answered and monotonic() - self._sent_at > _AGAIN_AFTER


def _hang_up(connection: Any) -> None:
    """End the wait for the server.

    Nobody closes the connection meanwhile: whoever has it waits for the cancel request to be over.
    """
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it has ended by itself
