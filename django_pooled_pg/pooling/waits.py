"""Reports borrowers' waits; borrowers that get a connection at once don't come here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from .lease import Lease, place_of

if TYPE_CHECKING:
    from .pool import Pool

P = ParamSpec("P")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who had held a connection longest when a wait began: its thread, for how many seconds, where."""

    thread: str
    seconds: float
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One wait for a connection, in seconds; `holder` is `None` if no connection was held then.

    `error` is what the borrower got in place of a connection.
    """

    alias: str
    pool_name: str
    seconds: float
    holder: Holder | None
    error: BaseException | None


on_wait: Callable[[Wait], None] | None = None
"""Called in the borrower's thread, after each wait."""


def told_of(
    lend: Callable[Concatenate[Pool, P], Lease],
) -> Callable[Concatenate[Pool, P], Lease]:
    """Make a method that waits for a connection report its wait."""

    def lend_and_tell(pool: Pool, /, *args: P.args, **kwargs: P.kwargs) -> Lease:
        with telling(pool):
            return lend(pool, *args, **kwargs)

    return lend_and_tell


@contextmanager
def telling(pool: Pool) -> Iterator[None]:
    """Report the wait that takes place inside."""
    if on_wait is None:
        yield
        return
    began, holder, error = monotonic(), _holder(pool), None
    try:
        yield
    except BaseException as ex:
        error = ex
        raise
    finally:
        if not isinstance(error, GeneratorExit):  # a task was collected, perhaps in a forked child
            _tell(pool, monotonic() - began, holder, error)


def _holder(pool: Pool) -> Holder | None:
    longest = min(pool.leases(), key=lambda lease: lease.since, default=None)
    if longest is None:
        return None
    seconds = monotonic() - longest.since
    return Holder(thread=longest.borrower.name, seconds=seconds, place=place_of(longest))


def _tell(pool: Pool, seconds: float, holder: Holder | None, error: BaseException | None) -> None:
    wait = Wait(alias=pool.alias, pool_name=pool.name, seconds=seconds, holder=holder, error=error)
    try:
        if on_wait is not None:
            on_wait(wait)
    except Exception:  # from the listener: the borrower has its connection, or its own error
        logger.exception("Pool %r: could not report a wait for a connection", pool.name)
