"""What a forked child does, and how it reports the outcome."""

from __future__ import annotations

import faulthandler
import gc
import os
import traceback
from collections.abc import Callable
from typing import NoReturn

from django.db import InterfaceError, OperationalError, connection

from django_pooled_pg.pooling.errors import ForkedInTransaction, PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from tests.soak.session import Wrong, look, write

HANGS = 30.0  # seconds; longer than anything may take

# How a forked child ends.
DONE, WRONG, BROKEN, REFUSED, EXHAUSTED = range(5)
OUTCOMES = {DONE: "done", BROKEN: "broken", REFUSED: "refused", EXHAUSTED: "exhausted"}
_CODES = {outcome: code for code, outcome in OUTCOMES.items()}


def outcome_of(error: Exception) -> str | None:
    """Name what may happen when sessions are killed and connections are few."""
    if isinstance(error, PoolExhausted):
        return "exhausted"
    if isinstance(error, (OperationalError, InterfaceError)):
        frames = traceback.walk_tb(error.__traceback__)
        borrowing = any(frame.f_code is Pool.borrow.__code__ for frame, _ in frames)
        return "refused" if borrowing else "broken"
    return None


def run_in_child(work: Callable[[], None]) -> int:
    """Fork, and return how the child ended."""
    if not (child := os.fork()):
        _become_child(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become_child(work: Callable[[], None]) -> NoReturn:
    code = WRONG
    try:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        work()
        code = DONE
    except Exception as ex:
        code = _CODES.get(outcome_of(ex) or "", WRONG)
        if code == WRONG:
            traceback.print_exc()
    finally:
        os._exit(code)


def writes(row: str) -> None:
    gc.collect()
    look()
    write(row)
    connection.close_pool()
    connection.close()


def asks_in_atomic() -> None:
    try:
        look()
    except ForkedInTransaction:
        connection.close()
    else:
        raise Wrong("a child used its parent's transaction")
