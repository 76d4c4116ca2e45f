from __future__ import annotations

from collections.abc import Callable

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.budget.closing import closed_one_by_one
from tests.support.queries import fetch


def test_sessions_have_ended_when_their_connections_are_closed(
    make_wrapper: Callable[..., DatabaseWrapper],
) -> None:
    wrapper, bystander = make_wrapper(), make_wrapper()
    pool = wrapper.pool
    assert pool is not None
    leases = [pool.borrow() for _ in range(3)]
    pids = [lease.connection.info.backend_pid for lease in leases]

    def left() -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
        return int(fetch(bystander, sql, [pids]))

    for number, connection in enumerate(
        closed_one_by_one([lease.connection for lease in leases]), start=1
    ):
        assert connection.closed
        assert left() <= 3 - number
    assert (
        len(list(closed_one_by_one([x.connection for x in leases]))) == 3
    )  # they are closed already
    for lease in leases:
        pool.give_back(lease)
