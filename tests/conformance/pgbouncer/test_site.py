"""What works behind PgBouncer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, models
from django.db import transaction as transactions
from psycopg import IsolationLevel

from django_pooled_pg.monitoring.server import server_side
from tests.support.pgbouncer import (
    ALIAS,
    BOTH,
    KEPT,
    NULL,
    MakeBouncer,
    MakeSite,
    PgBouncer,
    pool_of,
    transaction,
)
from tests.support.processes import run_script
from tests.support.queries import backend_pid, fetch
from tests.support.waiting import wait_until


class Row(models.Model):
    """A row of one of the threads; `orm` makes the table."""

    owner = models.IntegerField()

    class Meta:
        app_label = "behind_pgbouncer"
        managed = False

    def __str__(self) -> str:
        return f"{self.pk} of {self.owner}"


@pytest.fixture
def table(make_wrapper: MakeSite) -> Iterator[None]:
    """The rows' table, made past PgBouncer."""
    name = Row._meta.db_table
    with make_wrapper().cursor() as cursor:
        # A run that was killed may have left it.
        cursor.execute(f"DROP TABLE IF EXISTS {name}")
        cursor.execute(f"CREATE TABLE {name} (id serial PRIMARY KEY, owner int NOT NULL)")
    yield
    with make_wrapper().cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")


@pytest.mark.usefixtures("table")
@BOTH
def test_thirty_threads_over_two_sessions(
    bouncer: PgBouncer, orm: MakeSite, site: dict[str, Any]
) -> None:
    wrapper = orm(bouncer, site)
    barrier = threading.Barrier(30)
    pids = set()

    def work(number: int) -> list[int]:
        barrier.wait(30)
        mine = Row.objects.using(ALIAS).filter(owner=number)
        try:
            with transactions.atomic(ALIAS):
                with connections[ALIAS].cursor() as cursor:
                    cursor.execute(f"SET LOCAL a.thread = '{number}'")
                mine.create(owner=number)
                with transactions.atomic(ALIAS):
                    mine.create(owner=number)
                    assert len(list(mine.iterator(chunk_size=1))) == 2
                    transactions.set_rollback(True, ALIAS)
                pids.add(backend_pid(connections[ALIAS]))
                assert fetch(connections[ALIAS], "SHOW a.thread") == str(number)
            return [row.owner for row in mine.iterator(chunk_size=1)]
        finally:
            connections[ALIAS].close()

    with ThreadPoolExecutor(30) as executor:
        read = list(executor.map(work, range(30)))
    assert read == [[number] for number in range(30)]
    assert len(pids) <= 2
    servers = [row for row in bouncer.console("SHOW SERVERS") if row["database"] != "pgbouncer"]
    assert len(servers) <= 2
    figures = pool_of(wrapper).statistics()
    assert (figures.exhausted, figures.connect_errors, figures.in_use) == (0, 0, 0)
    if site is KEPT:
        assert figures.connects <= 10
    else:
        # Those who wait get the connections of those who are done.
        assert 10 <= figures.connects < figures.borrows
        wait_until(lambda: pool_of(wrapper).statistics().size == 0, within=30)


@BOTH
def test_each_client_has_its_own_time_zone_and_name(
    bouncer: PgBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    zones = ["Asia/Tokyo", "UTC", "Europe/Paris"]
    wrappers = [
        behind(bouncer, site, TIME_ZONE=zone, OPTIONS={"application_name": f"of {zone}"})
        for zone in zones
    ]
    for _ in range(2):
        for wrapper, zone in zip(wrappers, zones, strict=True):
            wrapper.ensure_connection()
            assert fetch(wrapper, "SHOW TimeZone") == zone
            assert fetch(wrapper, "SHOW application_name") == f"of {zone}"
    # One after the other they got the same session.
    assert len({backend_pid(wrapper) for wrapper in wrappers}) == 1


def test_a_new_connection_costs_the_server_nothing(bouncer: PgBouncer, behind: MakeSite) -> None:
    wrapper = behind(bouncer)

    def queries() -> int:
        stats = bouncer.console("SHOW STATS")
        return sum(int(row["total_query_count"]) for row in stats if row["database"] != "pgbouncer")

    fetch(wrapper, "SELECT 1")
    before, connects = queries(), pool_of(wrapper).statistics().connects
    for _ in range(3):
        fetch(wrapper, "SELECT 1")
    assert queries() - before == 3
    assert pool_of(wrapper).statistics().connects - connects == 3


def test_what_belongs_to_a_transaction_works(bouncer: PgBouncer, orm: MakeSite) -> None:
    wrapper = orm(bouncer)
    before = fetch(wrapper, "SHOW statement_timeout")
    with transactions.atomic(ALIAS), wrapper.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '77s'")
        cursor.execute("CREATE TEMP TABLE passing (n int) ON COMMIT DROP")
        cursor.execute("SELECT pg_advisory_xact_lock(4711)")
        cursor.execute("INSERT INTO passing VALUES (1)")
        with wrapper.chunked_cursor() as rows:
            rows.execute("SELECT generate_series(1, 300)")
            assert len(rows.fetchmany(10)) + len(rows.fetchall()) == 300
        assert fetch(wrapper, "SHOW statement_timeout") == "77s"
    assert fetch(wrapper, "SHOW statement_timeout") == before
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"
    assert fetch(wrapper, locks) == 0
    assert fetch(wrapper, "SELECT to_regclass('passing')") is None


def test_an_isolation_level_is_of_ones_own_transactions(
    bouncer: PgBouncer, behind: MakeSite
) -> None:
    level = {"isolation_level": IsolationLevel.SERIALIZABLE}
    strict, other = behind(bouncer, OPTIONS=level), behind(bouncer)
    with transaction(strict) as one:
        assert fetch(strict, "SHOW transaction_isolation") == "serializable"
    with transaction(other) as same:
        assert fetch(other, "SHOW transaction_isolation") == "read committed"
    assert one == same


@BOTH
def test_in_session_mode_nothing_is_mixed(
    make_bouncer: MakeBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer(pool_mode="session", default_pool_size=1)
    wrapper = behind(bouncer, site, DISABLE_SERVER_SIDE_CURSORS=False)
    for _ in range(2):
        wrapper.ensure_connection()
        assert fetch(wrapper, "SHOW statement_timeout") != "77s"
        with wrapper.cursor() as cursor:
            cursor.execute("SET statement_timeout = '77s'")
            cursor.execute("CREATE TEMP TABLE passing (n int)")
        assert fetch(wrapper, "SELECT pg_try_advisory_lock(4711)")
        assert fetch(wrapper, "SHOW statement_timeout") == "77s"
        with wrapper.chunked_cursor() as rows:
            rows.execute("SELECT generate_series(1, 300)")
            assert len(rows.fetchall()) == 300
        wrapper.close()
        # An idle connection keeps the one session, one that is being reset keeps it, too.
        if site is KEPT:
            wait_until(lambda: pool_of(wrapper).statistics().idle == 1, within=30)


@pytest.mark.parametrize(
    ("site", "said"),
    [(KEPT, "no issues (1 silenced)"), (NULL, "no issues (0 silenced)")],
    ids=["pool", "null"],
)
def test_the_checks_are_content(
    bouncer: PgBouncer, database: dict[str, Any], site: dict[str, Any], said: str
) -> None:
    settings = {**database, **site["DATABASES"]["default"], **bouncer.settings}
    script = "from django.core.management import call_command; call_command('check', databases=['default'])"
    printed = run_script(
        script,
        {"default": settings},
        INSTALLED_APPS=["django_pooled_pg"],
        SILENCED_SYSTEM_CHECKS=site.get("SILENCED_SYSTEM_CHECKS", []),
    )
    assert printed == f"System check identified {said}.\n"


def test_poolstats_counts_the_sessions_of_pgbouncer(
    make_bouncer: MakeBouncer, orm: MakeSite, behind: MakeSite, make_wrapper: MakeSite
) -> None:
    bouncer = make_bouncer(default_pool_size=2)
    direct = make_wrapper()
    direct.ensure_connection()
    with transaction(orm(bouncer)) as one, transaction(behind(bouncer)) as other:
        assert one != other
    here = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    # With the one that PgBouncer lent to ask. Sessions of earlier tests may yet be ending.
    wait_until(lambda: server_side(ALIAS).ours == fetch(direct, here), within=30)
    assert server_side(ALIAS).error is None
