"""What the tests of this folder ask pools and the server."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.pool import Pool
from tests.support.queries import fetch
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]
MakePool = Callable[..., Pool]

NULL = {"class": "null"}
LONG = 30.0
both_kinds = pytest.mark.parametrize("kind", [{}, NULL], ids=["pool", "null"])


def pid(lease: Lease) -> int:
    return int(lease.connection.info.backend_pid)


def visit(pool: Pool) -> int:
    """Borrow, query and give back, as a request does; return the session's process id."""
    lease = pool.borrow()
    try:
        lease.connection.execute("SELECT 1")
        return pid(lease)
    finally:
        pool.give_back(lease)


def make_idle(pool: Pool, count: int) -> set[int]:
    leases = [pool.borrow() for _ in range(count)]
    for lease in leases:
        pool.give_back(lease)
    wait_until(lambda: pool.statistics().idle == count)
    return {pid(lease) for lease in leases}


def idle_pids(pool: Pool) -> set[int]:
    backing = pool.ledger.backing
    assert backing is not None
    return {connection.info.backend_pid for connection in backing.idle_connections()}


def alive(bystander: DatabaseWrapper, pids: Collection[int]) -> set[int]:
    with bystander.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)])
        return {row[0] for row in cursor.fetchall()}


def terminate(bystander: DatabaseWrapper, pids: Collection[int]) -> None:
    for one in pids:
        assert fetch(bystander, "SELECT pg_terminate_backend(%s)", [one])
    wait_until(lambda: not alive(bystander, pids))


def waiting(pool: Pool, count: int) -> None:
    wait_until(lambda: pool.statistics().waiting == count)
