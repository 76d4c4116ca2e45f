"""Writes find the primary again, and no connection that refuses to write is lent twice.

A primary with a streaming standby; the pool's settings name both and ask for one that accepts
writes, as https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS says.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Literal

import psycopg
import pytest
from django.db import InternalError, OperationalError
from psycopg.errors import ReadOnlySqlTransaction

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.pool import Pool
from django_pooled_pg.pooling.session.statements import NOTHING, effect_of
from testproject.embedded import Cluster
from tests.support.queries import fetch
from tests.support.waiting import wait_until

WITHIN = 5.0  # seconds from the promotion to the last thread's first write
WRITE = "INSERT INTO written VALUES (%s) RETURNING inet_server_port()"

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def primary() -> Iterator[Cluster]:
    with Cluster() as cluster:
        admin(cluster, "CREATE TABLE written (who text)")
        yield cluster


@pytest.fixture
def standby(primary: Cluster) -> Iterator[Cluster]:
    with primary.standby() as cluster:
        wait_until(lambda: standbys(primary) == 1)
        yield cluster


def admin(cluster: Cluster, sql: str) -> Any:
    """Run `sql`; return the first value of its first row."""
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def standbys(cluster: Cluster) -> int:
    return int(admin(cluster, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"))


def refuse_writes(cluster: Cluster, refuse: bool) -> None:
    """Switch a running server to read-only and back, and cut no connection."""
    admin(cluster, f"ALTER SYSTEM SET default_transaction_read_only = {'on' if refuse else 'off'}")
    admin(cluster, "SELECT pg_reload_conf()")
    asked = "SHOW default_transaction_read_only"
    wait_until(lambda: admin(cluster, asked) == ("on" if refuse else "off"))


class Site:
    """Requests that share the pool of one alias, each with a wrapper of its own."""

    def __init__(
        self, make_wrapper: MakeWrapper, *clusters: Cluster, min_size: int = 1, **options: Any
    ) -> None:
        settings = {
            "alias": "site",
            "NAME": "postgres",
            "USER": "postgres",
            "PASSWORD": "",
            "HOST": ",".join("127.0.0.1" for _ in clusters),
            "PORT": ",".join(str(cluster.port) for cluster in clusters),
            "OPTIONS": options,
            "pool": {"min_size": min_size, "max_size": 4, "timeout": 30},
        }
        self.wrapper = lambda: make_wrapper(**settings)
        pool = self.wrapper().pool
        assert pool is not None
        self.pool: Pool = pool

    def request(self, sql: str = WRITE) -> Any:
        """Borrow, query, return."""
        wrapper = self.wrapper()
        try:
            return fetch(wrapper, sql, [threading.current_thread().name] if "%s" in sql else None)
        finally:
            wrapper.close()

    def fill(self) -> set[int]:
        """Leave `max_size` idle connections in the pool; return where they lead to."""
        wrappers = [self.wrapper() for _ in range(self.pool.config.max_size)]
        for wrapper in wrappers:
            wrapper.ensure_connection()
        ports = {fetch(wrapper, "SELECT inet_server_port()") for wrapper in wrappers}
        for wrapper in wrappers:
            wrapper.close()
        wait_until(lambda: self.pool.statistics().idle == len(wrappers))
        return ports

    def refused(self) -> None:
        """Write, which must fail with the server's own error."""
        with pytest.raises(InternalError) as caught:
            self.request()
        assert isinstance(caught.value.__cause__, ReadOnlySqlTransaction)


class Writers:
    """Threads that write, one request after the other."""

    def __init__(self, site: Site, count: int) -> None:
        self.site = site
        self.errors: list[tuple[float, Exception]] = []
        # When each thread's latest successful write began, and where it arrived.
        self.latest: dict[str, tuple[float, int]] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"w{n}") for n in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        name = threading.current_thread().name
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                port = self.site.request()
            except Exception as ex:
                self.errors.append((began, ex))
                self._stop.wait(0.02)  # as a client that tries again
            else:
                self.latest[name] = (began, port)

    def have_all_written_since(self, moment: float) -> bool:
        latest = dict(self.latest)
        return len(latest) == len(self._threads) and all(at >= moment for at, _ in latest.values())


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_writes_go_to_the_promoted_standby(
    make_wrapper: MakeWrapper,
    primary: Cluster,
    standby: Cluster,
    mode: Literal["fast", "immediate"],
) -> None:
    site = Site(make_wrapper, primary, standby, target_session_attrs="read-write")
    with Writers(site, 6) as writers:
        wait_until(lambda: writers.have_all_written_since(0.0), within=30)
        assert not writers.errors
        primary.stop(mode)
        # The outage is noticed: the pool tries in vain to reconnect when the standby takes over.
        stopped = time.monotonic()
        wait_until(lambda: any(at > stopped for at, _ in list(writers.errors)))
        standby.promote()
        promoted = time.monotonic()
        wait_until(lambda: writers.have_all_written_since(promoted), WITHIN)
        recovered = time.monotonic()
        wait_until(lambda: writers.have_all_written_since(recovered))
    assert {port for _, port in writers.latest.values()} == {standby.port}
    late = [error for began, error in writers.errors if began > recovered]
    assert not late
    unexpected = [x for _, x in writers.errors if not isinstance(x, OperationalError)]
    assert not unexpected
    assert site.fill() == {standby.port}
    assert [site.request() for _ in range(8)] == [standby.port] * 8


def test_the_first_request_after_a_quiet_failover_succeeds(
    make_wrapper: MakeWrapper, primary: Cluster, standby: Cluster
) -> None:
    site = Site(make_wrapper, primary, standby, target_session_attrs="read-write")
    assert site.fill() == {primary.port}
    primary.stop("immediate")
    standby.promote()
    assert [site.request() for _ in range(8)] == [standby.port] * 8
    assert site.pool.statistics().dead == 4


def test_a_demoted_primary_that_cuts_no_connection_is_left_after_one_error(
    make_wrapper: MakeWrapper, primary: Cluster, standby: Cluster
) -> None:
    """As managed failovers do: the old primary stays, reads on, and refuses to write."""
    site = Site(make_wrapper, primary, standby, target_session_attrs="read-write")
    assert site.fill() == {primary.port}
    refuse_writes(primary, True)
    standby.promote()
    site.refused()
    assert [site.request() for _ in range(8)] == [standby.port] * 8
    assert site.fill() == {standby.port}
    # The others: the one that refused was not found dead, it was known to be.
    assert site.pool.statistics().dead == 3


@pytest.mark.parametrize("fault", ["stopped", "demoted"])
def test_connections_that_were_never_lent_are_asked_too(
    make_wrapper: MakeWrapper, primary: Cluster, standby: Cluster, fault: str
) -> None:
    site = Site(make_wrapper, primary, standby, min_size=4, target_session_attrs="read-write")
    site.pool.open()
    wait_until(lambda: site.pool.statistics().idle == 4)
    if fault == "stopped":
        primary.stop("immediate")
        standby.promote()
    else:
        refuse_writes(primary, True)
        standby.promote()
        site.refused()
    assert [site.request() for _ in range(8)] == [standby.port] * 8


def test_those_who_held_connections_get_one_error_each(
    make_wrapper: MakeWrapper, primary: Cluster, standby: Cluster
) -> None:
    site = Site(make_wrapper, primary, standby, target_session_attrs="read-write")
    with Writers(site, 8) as writers:
        wait_until(lambda: writers.have_all_written_since(0.0), within=30)
        refuse_writes(primary, True)
        standby.promote()
        promoted = time.monotonic()
        wait_until(lambda: writers.have_all_written_since(promoted), WITHIN)
    assert {port for _, port in writers.latest.values()} == {standby.port}
    # Before the promotion there was no server that takes writes.
    late = Counter(type(x.__cause__) for began, x in writers.errors if began > promoted)
    assert late[ReadOnlySqlTransaction] <= site.pool.config.max_size
    assert set(late) <= {ReadOnlySqlTransaction, psycopg.OperationalError}, late


def test_while_the_only_server_is_read_only_no_old_connection_is_lent(
    make_wrapper: MakeWrapper, primary: Cluster
) -> None:
    site = Site(make_wrapper, primary, target_session_attrs="read-write")
    site.fill()
    refuse_writes(primary, True)
    site.refused()
    for _ in range(3):
        with pytest.raises(OperationalError, match="read-only"):
            site.request("SELECT 1")
    refuse_writes(primary, False)
    wait_until(lambda: not fails(site), within=2)
    assert [site.request() for _ in range(8)] == [primary.port] * 8


def test_a_plain_read_that_writes_is_seen(make_wrapper: MakeWrapper, primary: Cluster) -> None:
    """By what the server says of it: the statement has no word of what it calls."""
    admin(
        primary,
        "CREATE FUNCTION write() RETURNS text LANGUAGE sql"
        " AS 'INSERT INTO written VALUES (''view'') RETURNING who';"
        "CREATE VIEW writing AS SELECT write() AS who",
    )
    read = "SELECT who FROM writing"
    assert effect_of(read) == NOTHING
    site = Site(make_wrapper, primary, target_session_attrs="read-write")
    assert site.request(read) == "view"
    site.fill()
    refuse_writes(primary, True)
    with pytest.raises(InternalError):
        site.request(read)
    with pytest.raises(OperationalError, match="read-only"):  # no old one is lent
        site.request("SELECT 1")


def fails(site: Site) -> bool:
    try:
        site.request()
    except OperationalError:
        return True
    return False


def test_writes_work_again_when_a_server_takes_them_again(
    make_wrapper: MakeWrapper, primary: Cluster
) -> None:
    """Without target_session_attrs: there is nowhere else to go."""
    site = Site(make_wrapper, primary)
    site.fill()
    refuse_writes(primary, True)
    for _ in range(3):
        site.refused()
    assert site.request("SELECT 1") == 1
    refuse_writes(primary, False)
    assert [site.request() for _ in range(8)] == [primary.port] * 8
    assert site.fill() == {primary.port}


def test_mistaken_writes_to_a_standby_cost_no_connections(
    make_wrapper: MakeWrapper, primary: Cluster, standby: Cluster
) -> None:
    site = Site(make_wrapper, standby)
    site.fill()
    # The first one may be taken for a failover.
    site.refused()
    site.fill()
    before = site.pool.statistics()
    for _ in range(10):
        site.refused()
        assert site.request("SELECT 1") == 1
    after = site.pool.statistics()
    assert (after.connects, after.dead) == (before.connects, before.dead)


def test_a_read_only_transaction_of_ones_own_costs_one_connection_at_most(
    make_wrapper: MakeWrapper, primary: Cluster
) -> None:
    site = Site(make_wrapper, primary, target_session_attrs="read-write")
    site.fill()
    before = site.pool.statistics().connects
    wrapper = site.wrapper()
    with pytest.raises(InternalError), wrapper.cursor() as cursor:
        cursor.execute("BEGIN READ ONLY; INSERT INTO written VALUES ('nobody')")
    wrapper.close()
    assert [site.request() for _ in range(8)] == [primary.port] * 8
    site.fill()
    assert site.pool.statistics().connects - before <= 1
