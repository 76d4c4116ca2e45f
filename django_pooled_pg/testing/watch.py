"""Watches what a block of a test does with pools: what it borrows, holds, and leaves in sessions.

If the test is in a transaction of its own, what the block would do without that: see `as_if.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.db import connections

from ..pooling.lease import Lease
from ..pooling.pool import Pool
from ..pooling.process.borrowers import Borrower, borrower
from ..request_record import current, recording
from ..request_scope import leave
from ..wrapper import PooledDatabaseMixin
from .as_if import AsIf
from .holding import Held, why_held

ReturnAt = Literal["request", "transaction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A session that isn't as it was: of which alias, what changed it first, and where."""

    alias: str
    what: str
    place: str


class Watch:
    """Watches this context's use of pools from `begin()` to `end()`.

    `using` is an alias, or `None` for all. With `return_at`, as if the pools had that setting.
    """

    def __init__(self, using: str | None, return_at: ReturnAt | None) -> None:
        if return_at not in (None, "request", "transaction"):
            raise ValueError(f"return_at must be 'request' or 'transaction', not {return_at!r}.")
        self._using = using
        self._return_at = return_at
        self._as_if: list[AsIf] = []
        self._pools: list[tuple[Pool, bool]] = []
        self._recording = ExitStack()

    def begin(self) -> None:
        wrappers: list[tuple[PooledDatabaseMixin, Pool]] = [
            (each, pool)
            for each in (connections.all() if self._using is None else [connections[self._using]])
            if isinstance(each, PooledDatabaseMixin) and (pool := each.pool) is not None
        ]
        if not wrappers:
            of = "any alias" if self._using is None else f"alias {self._using!r}"
            raise ImproperlyConfigured(f"There is no pool to watch: DATABASES has none for {of}.")
        # Django's test client doesn't always say that a request has ended.
        leave(borrower())
        for wrapper, pool in wrappers:
            self._pools.append((pool, pool.returns_early))
            if self._return_at is not None:
                pool.returns_early = self._return_at == "transaction"
            if wrapper.in_atomic_block and (lease := wrapper._lease) is not None:
                as_if = AsIf(wrapper, lease, to_request_end=not pool.returns_early)
                self._as_if.append(as_if)
                as_if.begin()
            elif wrapper.autocommit:
                wrapper.close()  # left over from the set-up
        self._aliases = {pool.alias for pool, _ in self._pools}
        self._record = self._recording.enter_context(recording(with_places=True))
        self._earlier = len(self._record.borrows())
        # Django's test client disconnects what would otherwise return connections.
        request_finished.connect(self._request_ended, weak=False)

    def end(self) -> None:
        request_finished.disconnect(self._request_ended)
        self._recording.close()
        for as_if in reversed(self._as_if):
            as_if.end()
        for pool, returned_early in self._pools:
            pool.returns_early = returned_early

    @property
    def is_as_if(self) -> bool:
        """Whether anything is reported as it would be without the test's transaction."""
        return bool(self._as_if)

    def borrows(self) -> dict[str, list[str]]:
        """Return where each borrow was, by alias."""
        found: dict[str, list[str]] = {}
        for borrow in self._record.borrows()[self._earlier :]:
            if borrow.alias in self._aliases and not borrow.error:
                found.setdefault(borrow.alias, []).append(borrow.place)
        for each in self._as_if:
            found.setdefault(each.alias, []).extend(each.places)
        return found

    def changes(self) -> list[Change]:
        """Return the sessions that were changed."""
        found = []
        for borrow in self._record.borrows()[self._earlier :]:
            if borrow.alias in self._aliases and (borrow.changed_by or borrow.pinned):
                what = borrow.changed_by or "direct use of psycopg's connection"
                place = borrow.changed_at or borrow.place
                found.append(Change(alias=borrow.alias, what=what, place=place))
        for as_if in self._as_if:
            if what := as_if.changed():
                found.append(Change(alias=as_if.alias, what=what, place=as_if.use.changed_at))
        return found

    def held(self) -> list[Held]:
        """Return what this context holds now."""
        if current() is not self._record:
            return []
        held = [self._held(lease, place) for lease, place in self._record.open_leases()]
        held += [as_if.held() for as_if in self._as_if]
        return [each for each in held if each is not None]

    def _held(self, lease: Lease, place: str) -> Held | None:
        pool, wrapper = lease.pool, lease.living_holder()
        if pool.alias not in self._aliases or wrapper is None:
            return None
        why = why_held(wrapper, lease.use)
        if not why and lease.borrower.in_request and not pool.returns_early:
            why = "return_at='request', to the end of the request"
        return Held(alias=pool.alias, place=place, why=why or "code that uses it")

    def _request_ended(self, **kwargs: Any) -> None:
        if current() is not self._record:
            return
        for as_if in self._as_if:
            self._leave(as_if.borrower)
            as_if.request_ended()
        for lease, _ in self._record.open_leases():
            wrapper = lease.living_holder()
            self._leave(lease.borrower)
            if lease.borrower.in_request or not isinstance(wrapper, PooledDatabaseMixin):
                continue
            if lease.borrower is borrower():
                wrapper.close_if_unusable_or_obsolete()
            else:
                lease.use.watcher = wrapper._self_ref
                wrapper.give_back_unused(lease)

    def _leave(self, who: Borrower) -> None:
        # With Django's asynchronous test client, another thread says that the request has ended.
        if who is not borrower():
            leave(who)
