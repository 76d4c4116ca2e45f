"""Audits the accounts: whether pool, server and workers agree on what happened."""

from __future__ import annotations

import gc
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from django.db import connections

from django_pooled_pg.pooling.lease import place_of
from tests.soak.account import becomes_true
from tests.soak.site import MAX_SIZE, MIN_SIZE

if TYPE_CHECKING:
    from tests.soak.rounds import Soak


class Audit:
    """The audit of one round; notes in its account what is wrong."""

    def __init__(self, soak: Soak) -> None:
        self.account = soak.account
        self._soak = soak
        self._pool = soak.pool

    def check_bounds(self) -> None:
        now = self._pool.statistics()
        # Tasks of a loop that was left wait until they are collected.
        most = self._soak.threads + 2 * self._soak.tasks
        # After a close_pool() nothing but leases may be there, some of the pool before.
        size_is_right = 0 <= now.size <= MAX_SIZE or now.size == now.in_use
        if not (size_is_right and 0 <= now.waiting <= most):
            self.account.wrong.append(f"out of bounds: {now}")

    def settle(self, reclaimed: int | None) -> None:
        """Nothing is in use, nobody waits, and what was lost was reclaimed once."""
        happened = self.account.happened
        lost = happened["died holding"] + happened["lost"]
        # An interrupt loses one connection at most, and a loop that is left all of them.
        at_most = lost + self.account.interrupts + MAX_SIZE * happened["loop left"]

        def settled() -> bool:
            # Each time: it does nothing while another thread collects.
            gc.collect()
            now = self._pool.statistics()
            return (
                now.in_use == now.waiting == 0
                and now.borrows == now.returns
                and now.idle == now.size
                and (reclaimed is None or lost <= now.reclaimed - reclaimed <= at_most)
            )

        if not becomes_true(settled):
            self.account.wrong.append(
                f"not settled: {lost} to {at_most} leases were lost after {reclaimed}; "
                f"{self._pool.statistics()}; {self._open_leases()}"
            )

    def _open_leases(self) -> list[str]:
        return [
            f"{lease.borrower.name} since {lease.since}, holder {lease.living_holder()!r}, "
            f"held {lease.is_held()}, returned {lease.returned}, {lease.connection!r}, "
            f"busy {lease.session.is_busy}, {place_of(lease)}"
            for lease in self._pool.leases()
        ]

    def check_slots(self) -> None:
        """`max_size` connections can be borrowed at once: no slot is missing, none is dead."""
        with ExitStack() as stack:
            pids = set()
            for _ in range(MAX_SIZE):
                other = stack.enter_context(closing(connections.create_connection("default")))
                try:
                    other.ensure_connection()
                    with other.cursor() as cursor:
                        cursor.execute("SELECT pg_backend_pid()")
                        pids.add(cursor.fetchone()[0])
                except Exception as ex:
                    self.account.wrong.append(f"{len(pids)} of {MAX_SIZE} slots, then: {ex!r}")
                    return

            def all_in_use() -> bool:
                now = self._pool.statistics()
                figures = {len(pids), now.in_use, now.size, self._soak.session_count()}
                return figures == {MAX_SIZE}

            if not becomes_true(all_in_use):
                self.account.wrong.append(
                    f"{len(pids)} connections lent, {self._soak.session_count()} sessions on the "
                    f"server; {self._pool.statistics()}"
                )

    def check_sizes(self) -> None:
        """Pool and server agree on how many sessions there are."""

        def agreed() -> bool:
            now = self._pool.statistics()
            sessions = self._soak.session_count()
            return now.in_use == 0 and MIN_SIZE <= now.size == sessions <= MAX_SIZE

        if not becomes_true(agreed):
            self.account.wrong.append(
                f"{self._soak.session_count()} sessions on the server; {self._pool.statistics()}"
            )

    def take_rows(self) -> set[str]:
        """Return the rows that are there, and remove them."""
        with closing(self._soak.superuser()) as superuser:
            superuser.execute("SET lock_timeout = '10s'")
            found = superuser.execute("DELETE FROM library_tag RETURNING name")
            return {name for (name,) in found}

    def check_rows(self) -> None:
        found = self.take_rows()
        present, absent = set(self.account.present), set(self.account.absent)
        if missing := present - found:
            self.account.wrong.append(f"committed, but not there: {sorted(missing)}")
        if undead := absent & found:
            self.account.wrong.append(f"rolled back, but there: {sorted(undead)}")
        if strange := found - set(self.account.tried):
            self.account.wrong.append(f"nobody wrote these: {sorted(strange)}")
        if not present:
            self.account.wrong.append("nothing was written")

    def check_errors(self) -> None:
        # Each session that is killed can be lent once more at most.
        broken = self.account.events.count("broken")
        if broken > self.account.kills:
            self.account.wrong.append(f"{self.account.kills} kills broke {broken} times")
