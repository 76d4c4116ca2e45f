"""What a site behind PgBouncer sees when something goes wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connections

from django_pooled_pg.pooling.errors import PoolExhausted
from tests.support.pgbouncer import (
    ALIAS,
    BOTH,
    MakeBouncer,
    MakeSite,
    pool_of,
    transaction,
)
from tests.support.queries import backend_pid, fetch
from tests.support.waiting import wait_until


@BOTH
def test_its_own_words_reach_the_borrower(
    make_bouncer: MakeBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer(max_client_conn=2)
    for changes, words in [
        ({"PASSWORD": "wrong"}, "authentication failed"),
        ({"USER": "nobody-knows"}, "authentication failed"),
    ]:
        with pytest.raises(OperationalError, match=words) as caught:
            behind(bouncer, site, **changes).ensure_connection()
        assert not isinstance(caught.value, PoolExhausted)
    for _ in range(2):
        behind(bouncer, site).ensure_connection()
    with pytest.raises(OperationalError, match="no more connections allowed") as caught:
        behind(bouncer, site).ensure_connection()
    assert not isinstance(caught.value, PoolExhausted)


@BOTH
def test_a_queue_that_is_too_long(
    make_bouncer: MakeBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer(default_pool_size=1, query_wait_timeout=1)
    holder, waiter = behind(bouncer, site), behind(bouncer, site)
    with transaction(holder), pytest.raises(OperationalError, match="query_wait_timeout") as caught:
        fetch(waiter, "SELECT 1")
    assert not isinstance(caught.value, PoolExhausted)
    waiter.close()
    assert fetch(waiter, "SELECT 42") == 42


@BOTH
def test_it_crashes_and_comes_back(
    make_bouncer: MakeBouncer, orm: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer(default_pool_size=2)
    pool = pool_of(orm(bouncer, site))

    def request(_: object) -> Exception | None:
        try:
            backend_pid(connections[ALIAS])
        except Exception as ex:
            return ex
        finally:
            connections[ALIAS].close()
        return None

    with ThreadPoolExecutor(8) as executor:
        assert not any(executor.map(request, range(24)))
        # Nobody came meanwhile: the idle connections that it left behind are found dead.
        bouncer.kill()
        bouncer.start()
        assert not any(executor.map(request, range(24)))
        load = executor.map(request, range(24))
        bouncer.kill()
        errors = [*load, *executor.map(request, range(24))]
        assert "refused" in str(errors[-1])
        assert {type(error) for error in errors if error} == {OperationalError}
        bouncer.start()
        assert not any(executor.map(request, range(24)))
    wait_until(lambda: pool.statistics().in_use == 0, within=30)
    assert pool.statistics().exhausted == 0


@BOTH
def test_those_who_come_while_it_is_paused_wait(
    make_bouncer: MakeBouncer, orm: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer()
    pool = pool_of(orm(bouncer, site))

    def request(number: int) -> int:
        try:
            return int(fetch(connections[ALIAS], "SELECT %s::int", [number]))
        finally:
            connections[ALIAS].close()

    def waiting() -> int:
        at_pgbouncer = sum(int(row["cl_waiting"]) for row in bouncer.console("SHOW POOLS"))
        return at_pgbouncer + pool.statistics().waiting if at_pgbouncer else 0

    bouncer.console("PAUSE")
    with ThreadPoolExecutor(5) as executor:
        try:
            answers = executor.map(request, range(5))
            wait_until(lambda: waiting() >= 5, within=30)
        finally:
            bouncer.console("RESUME")
        assert list(answers) == list(range(5))
