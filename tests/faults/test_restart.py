"""Idle connections that die cost no request an error, nor the wait of a backoff."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import OperationalError

from testproject.embedded import Cluster
from tests.support.proxy import TLS, Proxy
from tests.support.queries import backend_pid, hold
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.faults.conftest import Answer, MakeSite, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(30)]

N = 8
# psycopg_pool's own pause after the first dead connection takes 0.9 s or more.
NO_BACKOFF = 0.8


def restart(server: Cluster) -> None:
    server.restart("fast")


def crash(server: Cluster) -> None:
    server.restart("immediate")


def terminate(server: Cluster, but: Collection[int] = ()) -> None:
    """End the sessions of all clients (`but` those) and wait until they are gone."""
    with psycopg.connect(server.dsn, autocommit=True) as superuser:
        those = (
            " FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL(%s)",
            [[superuser.info.backend_pid, *but]],
        )
        superuser.execute("SELECT pg_terminate_backend(pid)" + those[0], those[1])
        wait_until(lambda: not superuser.execute("SELECT" + those[0], those[1]).rowcount)


def one_by_one(site: Site, count: int) -> list[Answer]:
    return site.one_by_one(count)


def at_once(site: Site, count: int) -> list[Answer]:
    return site.at_once(count)


def answered(answers: list[Answer]) -> set[int]:
    """Return the pids; no request may have failed."""
    assert [answer.error for answer in answers if answer.error] == []
    return {answer.pid for answer in answers if answer.pid}


@pytest.fixture
def tls_proxy(server: Cluster) -> Iterator[Proxy]:
    with Proxy(server.port, tls=True) as proxy:
        yield proxy


@pytest.fixture(params=["plain", "tls"])
def site(request: pytest.FixtureRequest, make_site: MakeSite, tls_proxy: Proxy) -> Site:
    if request.param == "plain":
        return make_site({"max_size": N}, OPTIONS={"sslmode": "disable"})
    encrypted = {"sslmode": "verify-full", "sslrootcert": str(TLS / "server.crt")}
    return make_site({"max_size": N}, OPTIONS=encrypted, PORT=str(tls_proxy.port))


@pytest.mark.parametrize("ask", [one_by_one, at_once])
@pytest.mark.parametrize("fault", [restart, crash, terminate])
def test_no_request_fails_or_waits(
    site: Site,
    server: Cluster,
    tls_proxy: Proxy,
    fault: Callable[[Cluster], None],
    ask: Callable[[Site, int], list[Answer]],
) -> None:
    dead = site.idle(N)
    fault(server)
    wait_until(lambda: tls_proxy.connections == 0)
    started = time.monotonic()
    pids = answered(ask(site, 2 * N))
    assert time.monotonic() - started < NO_BACKOFF
    assert not pids & dead
    assert site.pool.statistics().dead == N
    assert site.pool.statistics().connect_errors == 0


def test_it_is_really_tls(site: Site) -> None:
    wrapper = site.wrapper()
    wrapper.ensure_connection()
    encrypted = site.settings["OPTIONS"]["sslmode"] != "disable"
    assert wrapper.connection.pgconn.ssl_in_use == encrypted
    wrapper.close()


def test_the_first_dead_connection_makes_the_pool_look_at_all(
    site: Site, server: Cluster, tls_proxy: Proxy
) -> None:
    # Dead and alive in turn: looking no further than to the first one alive isn't enough. The
    # one that was returned last is lent first, and is dead.
    alive = set(sorted(site.idle(N))[::2])
    terminate(server, but=alive)
    wait_until(lambda: tls_proxy.connections <= len(alive))
    assert answered([site.request()]) <= alive
    assert site.pool.statistics().dead == N - len(alive)


def test_those_alive_stay(site: Site, server: Cluster, tls_proxy: Proxy) -> None:
    alive = set(sorted(site.idle(N))[::2])
    terminate(server, but=alive)
    wait_until(lambda: tls_proxy.connections <= len(alive))
    assert site.idle(N) >= alive
    assert site.pool.statistics().dead == N - len(alive)


@pytest.mark.parametrize("fault", [restart, terminate])
def test_connections_that_were_never_lent(
    make_site: MakeSite, server: Cluster, fault: Callable[[Cluster], None]
) -> None:
    """As after a prewarm, or when the pool has grown to min_size by itself."""
    site = make_site({"min_size": N, "max_size": N})
    site.pool.open(wait=True)
    wait_until(lambda: site.pool.statistics().idle == N)
    fault(server)
    started = time.monotonic()
    answered(site.one_by_one(2 * N))
    assert time.monotonic() - started < NO_BACKOFF


def test_the_size_is_kept(site: Site, server: Cluster, tls_proxy: Proxy) -> None:
    """The dead free their slots, each once: again and again, and up to max_size."""
    for _ in range(3):
        site.idle(N)
        terminate(server)
        wait_until(lambda: tls_proxy.connections == 0)
        answered(site.at_once(N))
    wait_until(lambda: site.pool.statistics().in_use == 0)
    assert len(site.idle(N)) == N
    assert site.pool.statistics().size == N


def test_a_request_that_was_running_fails_alone(
    site: Site, server: Cluster, tls_proxy: Proxy
) -> None:
    site.idle(N)
    wrapper = site.wrapper()
    hold(wrapper)
    restart(server)
    wait_until(lambda: tls_proxy.connections == 0)
    with pytest.raises(OperationalError):
        backend_pid(wrapper)
    wrapper.close()
    answered(site.one_by_one(2 * N))
    answered(site.at_once(2 * N))


def test_a_message_is_no_farewell(make_site: MakeSite, superuser: psycopg.Connection[Any]) -> None:
    """Something to read on the socket doesn't mean that the session is over."""
    site = make_site({"max_size": 1, "reset": "never"})
    wrapper = site.wrapper()
    with wrapper.cursor() as cursor:
        cursor.execute("LISTEN books")
    pid, socket = hold(wrapper), wrapper.connection.fileno()
    wrapper.close()
    wait_until(lambda: site.pool.statistics().idle == 1)
    superuser.execute("NOTIFY books")
    assert select.select([socket], [], [], 5)[0], "the message has arrived"
    assert answered(site.one_by_one(3)) == {pid}
    assert site.pool.statistics().dead == 0


@pytest.mark.parametrize(
    "check", ["query", "psycopg_pool.ConnectionPool.check_connection"], ids=["query", "callable"]
)
@pytest.mark.parametrize("ask", [one_by_one, at_once])
def test_other_checks(
    make_site: MakeSite,
    server: Cluster,
    check: str,
    ask: Callable[[Site, int], list[Answer]],
) -> None:
    site = make_site({"max_size": N, "check": check})
    site.idle(N)
    terminate(server)
    started = time.monotonic()
    answered(ask(site, 2 * N))
    assert time.monotonic() - started < NO_BACKOFF


def test_without_a_check_requests_fail(make_site: MakeSite, server: Cluster) -> None:
    site = make_site({"max_size": N, "check": "never"})
    site.idle(N)
    terminate(server)
    assert site.request().error


# A peer that vanishes

CHECK_IDLE = 0.05
# Asking a server that says nothing takes 2 s, once, however many connections there are.
BOUNDED = 4.0


@pytest.fixture
def proxy(server: Cluster) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def far_site(make_site: MakeSite, proxy: Proxy) -> Site:
    return make_site({"max_size": N, "check_idle": CHECK_IDLE}, PORT=str(proxy.port))


def idle_for_long(site: Site) -> set[int]:
    pids = site.idle(N)
    time.sleep(2 * CHECK_IDLE)  # this is the idleness itself
    return pids


@pytest.mark.parametrize("ask", [one_by_one, at_once])
def test_connections_that_the_network_forgot(
    far_site: Site, proxy: Proxy, ask: Callable[[Site, int], list[Answer]]
) -> None:
    dead = idle_for_long(far_site)
    proxy.freeze()
    proxy.resume()
    started = time.monotonic()
    pids = answered(ask(far_site, 2 * N))
    assert time.monotonic() - started < BOUNDED
    assert not pids & dead
    assert far_site.pool.statistics().dead == N


def test_a_network_that_is_gone_for_a_while(far_site: Site, proxy: Proxy) -> None:
    idle_for_long(far_site)
    proxy.freeze()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(far_site.at_once, N)
        try:
            wait_until(lambda: far_site.pool.statistics().dead == N, within=BOUNDED)
        finally:
            proxy.resume()
        resumed = time.monotonic()
        answered(waiting.result())
    assert time.monotonic() - resumed < BOUNDED


def test_connections_that_the_network_reset(far_site: Site, proxy: Proxy) -> None:
    dead = far_site.idle(N)
    proxy.drop()
    started = time.monotonic()
    pids = answered(far_site.one_by_one(2 * N))
    assert time.monotonic() - started < NO_BACKOFF
    assert not pids & dead


def test_a_connection_in_use_lately_is_lent_without_asking(
    make_site: MakeSite, proxy: Proxy
) -> None:
    site = make_site({"check_idle": 30}, PORT=str(proxy.port))
    site.idle(1)
    proxy.freeze()
    wrapper = site.wrapper()
    started = time.monotonic()
    wrapper.ensure_connection()
    assert time.monotonic() - started < 1.5, "to ask takes 2 s"
    wrapper.close()
    proxy.resume()


def test_a_silent_network_fails_each_borrower_of_a_null_pool_in_its_own_time(
    make_site: MakeSite, proxy: Proxy
) -> None:
    """One that connects must not keep the others, or statistics, waiting for it."""
    timeout = 2.0
    site = make_site({"class": "null", "max_size": 2, "timeout": timeout}, PORT=str(proxy.port))
    answered(site.at_once(2))
    proxy.freeze()
    with ThreadPoolExecutor(1) as executor:
        started = time.monotonic()
        failing = executor.submit(site.at_once, 4)
        wait_until(lambda: site.pool.statistics().size == 2)
        assert time.monotonic() - started < timeout
        answers = failing.result()
    assert time.monotonic() - started < 2 * timeout
    assert all(answer.error is not None for answer in answers)
    proxy.resume()
    answered(site.at_once(4))
    assert site.pool.statistics().size == 0
