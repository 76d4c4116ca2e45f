"""Keeps the record of what one request did with pools; shows it to nobody.

A record belongs to a context (`contextvars`). asgiref and asyncio pass the context on to the
threads and tasks that they start, so those write to the record of the request they work for. A
thread that code starts itself has only its own context, and notes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from . import request_scope
from .places import place_of_caller
from .pooling.errors import PoolExhausted
from .pooling.lease import HolderRef, Lease
from .pooling.pool import Pool
from .pooling.process.borrowers import Borrower
from .pooling.session import use
from .pooling.session.statements import CHANGES

if TYPE_CHECKING:
    from .pooling.tasks.borrower import TaskBorrower


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrow:
    """One borrow, as far as it has come. Times are in seconds.

    - `began`: when, counted from the opening of the record;
    - `waited`: from there to the connection, or to the error;
    - `held`: from there to the return, or until now unless `returned`;
    - `worked`: the part of the time held that statements took;
    - `error`: `"exhausted"`, or `"failed"` for any other; `""` if there was none;
    - `pinned`: whether it couldn't go back early because its session holds state;
    - `changed_by`: the first command or function that changed the session, such as `"SET"`;
    - `cleaned`: whether the session is rolled back or reset when it goes back (or would be now);
    - `place`: where the application borrowed; empty unless asked for;
    - `changed_at`: where it first changed the session; empty unless asked for.
    """

    alias: str
    began: float
    waited: float
    held: float = 0.0
    worked: float = 0.0
    returned: bool = True
    error: str = ""
    pinned: bool = False
    changed_by: str = ""
    cleaned: bool = False
    place: str = ""
    changed_at: str = ""


@dataclass(slots=True, kw_only=True)
class Totals:
    """The borrows of one alias. Times are in seconds, summed over all threads."""

    alias: str
    borrows: int = 0
    exhausted: int = 0
    failed: int = 0
    waited: float = 0.0
    held: float = 0.0
    worked: float = 0.0
    pinned: int = 0
    cleaned: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class _Entry:
    """A borrow that may still go on, in whatever thread."""

    alias: str
    began: float
    waited: float
    place: str
    lease: Lease | None = None
    error: str = ""
    ended: Borrow | None = None

    def end(self, now: float) -> None:
        self.ended = self._at(now, returned=True)
        self.lease = None

    def look(self) -> Borrow:
        lease = self.lease
        if lease is None:
            return self.ended or self._at(0.0, returned=True)
        seen = self._at(monotonic(), returned=False)
        # It may have gone back meanwhile, and its session may belong to another borrower.
        return self.ended or seen

    def _at(self, now: float, *, returned: bool) -> Borrow:
        lease = self.lease
        if lease is None:
            return Borrow(
                alias=self.alias,
                began=self.began,
                waited=self.waited,
                error=self.error,
                place=self.place,
            )
        use = lease.use
        return Borrow(
            alias=self.alias,
            began=self.began,
            waited=self.waited,
            held=now - lease.since,
            worked=use.worked,
            returned=returned,
            pinned=lease.pinned,
            changed_by=(use.reason or "a statement") if use.effect >= CHANGES else "",
            cleaned=lease.pool.would_reset(lease),
            place=self.place,
            changed_at=use.changed_at if use.effect >= CHANGES else "",
        )


class Record:
    """What one request did with pools. Any thread may add to it and read it."""

    def __init__(self) -> None:
        self.is_open = True
        self.with_places = False
        self._opened_at = monotonic()
        self._entries: list[_Entry] = []

    def borrow(self, pool: Pool, holder: HolderRef, who: Borrower) -> Lease:
        """Borrow from `pool`, and note that. Raises what `Pool.borrow()` raises."""
        with self.note(pool.alias) as lent:
            lent.append(lease := pool.borrow(holder, who))
        return lease

    @contextmanager
    def note(self, alias: str) -> Iterator[list[Lease]]:
        """Note the borrow whose lease is appended to the list."""
        started = monotonic()
        error = "failed"
        lent: list[Lease] = []
        try:
            yield lent
            error = ""
        except PoolExhausted:
            error = "exhausted"
            raise
        finally:
            entry = _Entry(
                alias=alias,
                began=started - self._opened_at,
                waited=monotonic() - started,
                place=place_of_caller() if self.with_places else "",
                lease=lent[0] if lent else None,
                error=error,
            )
            self._entries.append(entry)
        lent[0].on_return = entry.end

    def open_leases(self) -> list[tuple[Lease, str]]:
        """Return the open leases, and where each was borrowed, in order of borrowing."""
        entries = sorted(self._entries.copy(), key=lambda entry: entry.began)
        return [(lease, e.place) for e in entries if (lease := e.lease) is not None]

    def borrows(self) -> list[Borrow]:
        """Return the borrows so far, in the order in which they began."""
        return sorted((entry.look() for entry in self._entries.copy()), key=lambda b: b.began)

    def totals(self) -> list[Totals]:
        """Return the sums for each alias, in the order in which the aliases were first used."""
        found: dict[str, Totals] = {}
        for borrow in self.borrows():
            totals = found.setdefault(borrow.alias, Totals(alias=borrow.alias))
            totals.borrows += not borrow.error
            totals.exhausted += borrow.error == "exhausted"
            totals.failed += borrow.error == "failed"
            totals.waited += borrow.waited
            totals.held += borrow.held
            totals.worked += borrow.worked
            totals.pinned += borrow.pinned
            totals.cleaned += borrow.cleaned
        return list(found.values())


_current: ContextVar[Record | None] = ContextVar("django_pooled_pg_record", default=None)


def current() -> Record | None:
    """Return the open record of this context, if there is one."""
    record = _current.get()
    # Tasks that outlive their request keep its context.
    return record if record is not None and record.is_open else None


def _borrow(pool: Pool, holder: HolderRef, who: Borrower) -> Lease:
    record = current()
    return pool.borrow(holder, who) if record is None else record.borrow(pool, holder, who)


async def borrow_for_task(pool: Pool, holder: HolderRef, who: TaskBorrower) -> Lease:
    """Borrow from `pool`, and note that if a record is kept."""
    from .pooling.tasks.borrow import borrow  # imported late: few sites have tasks that borrow

    record = current()
    if record is None:
        return await borrow(pool, holder, who)
    with record.note(pool.alias) as lent:
        lent.append(lease := await borrow(pool, holder, who))
    return lease


def _where() -> str:
    record = current()
    return place_of_caller() if record is not None and record.with_places else ""


@contextmanager
def recording(*, with_places: bool = False) -> Iterator[Record]:
    """Record what this context does with pools; inside another `recording()`, in its record.

    With `with_places`, also where in the code. Borrows that outlast it are followed to their end.
    """
    request_scope.borrow = _borrow
    if with_places:
        use.where = _where
    if (outer := current()) is not None:
        outer.with_places = outer.with_places or with_places
        yield outer
        return
    record = Record()
    record.with_places = with_places
    # No token to reset with: asgiref may have copied the value here from another context.
    before = _current.get()
    _current.set(record)
    try:
        yield record
    finally:
        record.is_open = False
        _current.set(before)
