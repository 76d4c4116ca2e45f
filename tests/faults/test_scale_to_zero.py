"""Servers that sleep while nobody is connected, and wake for the next: docs/scale-to-zero.md."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from testproject.embedded import Cluster
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.faults.conftest import MakeSite

pytestmark = pytest.mark.faults

# Seconds: longer than the 2 s that a connect may take at least, whatever the pool's timeout.
START = 4.0


def sessions(superuser: psycopg.Connection[Any]) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sleeper'"
    ((count,),) = superuser.execute(sql).fetchall()
    return int(count)


@pytest.mark.parametrize("leftover", [False, True], ids=["by the pool", "by the server"])
def test_a_server_may_fall_asleep_and_the_first_request_waits_for_its_start_alone(
    make_site: MakeSite, server: Cluster, superuser: psycopg.Connection[Any], leftover: bool
) -> None:
    """Once the pool has let go; or the server has closed what it still had."""
    with Proxy(server.port) as proxy:
        site = make_site(
            {"min_size": 0, "max_idle": 600 if leftover else 0.5, "timeout": 30},
            PORT=str(proxy.port),
            OPTIONS={"application_name": "sleeper"},
        )
        answers = site.at_once(5)
        assert [answer.error for answer in answers] == [None] * 5
        if leftover:
            proxy.drop()
        else:
            wait_until(lambda: sessions(superuser) == 0, within=10)
            assert site.pool.statistics().size == 0
        # What connects is let in when the server is up.
        proxy.freeze()
        with ThreadPoolExecutor(1) as executor:
            started = time.monotonic()
            answer = executor.submit(site.request)
            wait_until(lambda: time.monotonic() - started > START, within=2 * START)
            assert not answer.done()
            proxy.resume()
            resumed = time.monotonic()
            assert answer.result().error is None
        assert time.monotonic() - resumed < 1.5
