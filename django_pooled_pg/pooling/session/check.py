"""Decides whether a connection is fit to be lent; closes nothing."""

from __future__ import annotations

import logging
import math
from time import monotonic

import psycopg

from ..config import Connection, PoolConfig
from .handles import with_handle
from .liveness import answers, exchange, is_alive
from .session import IDLE, Session, session_of

logger = logging.getLogger(__name__)

# A standby's sessions always refuse to write: don't suspect it more often than this (seconds).
_SUSPICION_PAUSE = 30.0


class Check:
    """The `check` of one pool."""

    def __init__(self, config: PoolConfig) -> None:
        self._how = config.check
        self._check_idle = config.check_idle
        # Since when there is reason to ask each connection once before it is lent. Written and read
        # without a lock: a borrower that misses the change came just before it.
        self._suspected_at = -math.inf
        # When a callable last refused a connection, and why.
        self._refused_at, self._refusal = -math.inf, ""

    def is_fit(self, connection: Connection, session: Session, now: float) -> bool:
        """Tell whether a connection that was idle may be lent; `now` is `time.monotonic()`."""
        if session.pgconn.transaction_status != IDLE:  # UNKNOWN: it is closed
            return False
        if session.checked_at < self._suspected_at:
            session.checked_at = monotonic()
            return _takes_writes(connection)
        if self._how == "auto":
            if now - session.idle_since > self._check_idle:
                return answers(connection)
            return not session.poll(0) or is_alive(connection, session.poll)
        if self._how == "query":
            return answers(connection)
        if callable(self._how):
            # The callback may take its time, but the connection isn't lost.
            session.is_busy = True
            try:
                with_handle(connection, self._how)
            except Exception as ex:  # a check says no by raising
                logger.info("The pool's 'check' refused a connection: %s", ex)
                self._refused_at, self._refusal = monotonic(), str(ex) or type(ex).__name__
                return False
            finally:
                session.is_busy = False
            return connection.pgconn.transaction_status == IDLE
        return True

    def refusal_within(self, seconds: float) -> str:
        """Return why a callable last refused a connection, if that was so lately; else `""`."""
        return self._refusal if monotonic() - self._refused_at <= seconds else ""

    def is_fit_at_once(self, session: Session, now: float) -> bool | None:
        """Return what `is_fit()` returns; `None` if that may wait, for the server or a callable."""
        if session.pgconn.transaction_status != IDLE:
            return False
        if self._how not in ("auto", "never") or session.checked_at < self._suspected_at:
            return None
        if self._how == "never":
            return True
        has_news = now - session.idle_since > self._check_idle or session.poll(0)
        return None if has_news else True

    def is_unwanted(self, connection: Connection) -> bool:
        """Tell, without waiting, whether an idle connection may be as dead as others."""
        # Those idle for long would have to be asked, and if the peer has vanished, each of them
        # would wait for its answer.
        session = session_of(connection)
        return monotonic() - session.idle_since > self._check_idle or bool(session.poll(0))

    def suspect(self, session: Session) -> bool:
        """Suspect all connections, because this one's server refused to write.

        Returns whether there is reason to: a server that never accepted writes always refuses.
        """
        now = monotonic()
        expected = session.read_only_from_start
        if expected and now - self._suspected_at < _SUSPICION_PAUSE:
            return False
        self._suspected_at = now
        return True


def _takes_writes(connection: Connection) -> bool:
    try:
        (result,) = exchange(connection, b"SHOW transaction_read_only")
    except (psycopg.Error, TimeoutError):
        return False
    return bool(result.get_value(0, 0) == b"off")
