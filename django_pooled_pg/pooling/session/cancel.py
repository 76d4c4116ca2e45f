"""One cancel request to the server, which must never hit somebody else's statement.

A request names only the session whose statement it means, and may arrive when that session already
runs another one. So nobody uses the session before the server has answered the request, which it
does by closing the connection that the request came on, once it has sent the signal.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from functools import partial
from time import monotonic
from typing import Any

import psycopg

from .liveness import ANSWER_LIMIT

logger = logging.getLogger(__name__)

# Seconds until a statement that goes on is canceled again: the first request may have come before
# the server began with it, or got lost.
_AGAIN_AFTER = 0.5
# Seconds to wait for a request under way. It gives up by itself before.
_LONGEST = ANSWER_LIMIT + 1


class Cancel:
    """One cancel request. A thread of its own sends it, since a server may keep it waiting.

    `before` is the previous one for the same session, if there is any.
    """

    def __init__(self, pool_name: str, before: Cancel | None = None) -> None:
        self._pool_name = pool_name
        self._before = before
        self._sent_at = monotonic()
        self._was_answered = self._has_ended = False
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def send(self, connection: Any) -> None:
        """Send it, in the background."""
        name = "django_pooled_pg-cancel"
        work = partial(self._send, connection)
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as ex:  # the system has no more threads, or the process ends
            self._say(ex)
            self.withdraw()

    def _send(self, connection: Any) -> None:
        try:
            # A connection that another package has wrapped has only its own.
            cancel = getattr(connection, "cancel_for_pool", connection.cancel_safe)
            cancel(timeout=ANSWER_LIMIT)
            self._was_answered = True
        except Exception as ex:
            # It may still arrive, so the session isn't used again.
            self._say(ex)
        finally:
            self._end()

    def _say(self, error: Exception) -> None:
        logger.warning("Pool %r: a statement can't be canceled: %s", self._pool_name, error)

    def withdraw(self) -> None:
        """End it without sending it."""
        self._was_answered = True
        self._end()

    def _end(self) -> None:
        self._has_ended = True
        self._is_over.release()

    def was_answered(self) -> bool:
        """Wait a few seconds at most until it and those before it were; tell whether they were."""
        until, each = monotonic() + _LONGEST, self
        while each._was_answered_by(until):
            if each._before is None:
                return True
            each = each._before
        return False

    def _was_answered_by(self, until: float) -> bool:
        if self._is_over.acquire(timeout=max(0.0, until - monotonic())):
            self._is_over.release()
        return self._was_answered

    def is_to_be_repeated(self) -> bool:
        """Tell whether its statement, if it still runs, needs another one."""
        return self._has_ended and monotonic() - self._sent_at > _AGAIN_AFTER


def hang_up(connection: Any) -> None:
    """End the wait for the server.

    Nobody closes the connection meanwhile: whoever has it waits until its use's `cancel` is over.
    """
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it ended by itself
