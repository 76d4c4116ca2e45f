"""What, as the documentation says, doesn't work behind PgBouncer in transaction mode."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError

from tests.support.pgbouncer import (
    BOTH,
    KEPT,
    MakeBouncer,
    MakeSite,
    PgBouncer,
    pool_of,
    transaction,
)
from tests.support.queries import fetch
from tests.support.waiting import wait_until


@BOTH
def test_what_is_set_for_the_session_meets_others(
    make_bouncer: MakeBouncer, behind: MakeSite, site: dict[str, Any]
) -> None:
    bouncer = make_bouncer(default_pool_size=1)
    one, other = behind(bouncer, site), behind(bouncer, site)
    one.ensure_connection()
    with one.cursor() as cursor:
        cursor.execute("SET statement_timeout = '77s'")
    assert fetch(other, "SHOW statement_timeout") == "77s"
    one.close()
    if site is KEPT:
        # The pool resets it, if not always the session that it was set in.
        wait_until(lambda: pool_of(one).statistics().resets == 1, within=30)
        assert fetch(other, "SHOW statement_timeout") != "77s"
    else:
        assert fetch(other, "SHOW statement_timeout") == "77s"


def test_a_reset_takes_nothing_from_the_clients(bouncer: PgBouncer, behind: MakeSite) -> None:
    changes = {"TIME_ZONE": "Asia/Tokyo", "OPTIONS": {"application_name": "it's mine"}}
    wrapper, other = behind(bouncer, KEPT, **changes), behind(bouncer, TIME_ZONE="Europe/Paris")
    other.ensure_connection()
    with wrapper.cursor() as cursor:
        cursor.execute("SET work_mem = '7MB'")
    wrapper.close()
    wait_until(lambda: pool_of(wrapper).statistics().resets == 1, within=30)
    wait_until(lambda: pool_of(wrapper).statistics().idle == 1, within=30)
    assert fetch(wrapper, "SHOW TimeZone") == "Asia/Tokyo"
    assert fetch(wrapper, "SHOW application_name") == "it's mine"
    assert fetch(other, "SHOW TimeZone") == "Europe/Paris"
    assert pool_of(wrapper).statistics().connects == 1


def test_a_session_lock_is_not_ones_own(make_bouncer: MakeBouncer, behind: MakeSite) -> None:
    bouncer = make_bouncer(default_pool_size=1)
    one, other = behind(bouncer), behind(bouncer)
    one.ensure_connection()
    assert fetch(one, "SELECT pg_try_advisory_lock(4711)")
    assert fetch(other, "SELECT pg_try_advisory_lock(4711)")  # the same session


def test_a_role_that_django_assumes_meets_others(
    make_bouncer: MakeBouncer, behind: MakeSite
) -> None:
    bouncer = make_bouncer(default_pool_size=1)
    one, other = behind(bouncer, OPTIONS={"assume_role": "pg_monitor"}), behind(bouncer)
    assert fetch(one, "SELECT current_user") == "pg_monitor"
    one.close()
    assert fetch(other, "SELECT current_user") == "pg_monitor"


def test_cursors_on_the_server_need_their_session(
    make_bouncer: MakeBouncer, behind: MakeSite
) -> None:
    bouncer = make_bouncer(default_pool_size=2)
    on, other = behind(bouncer, DISABLE_SERVER_SIDE_CURSORS=False), behind(bouncer)
    with on.chunked_cursor() as rows:
        rows.execute("SELECT generate_series(1, 300)")
        with (
            transaction(other),
            pytest.raises(ProgrammingError, match=r'cursor "_django_curs_\w+" does not exist'),
        ):
            rows.fetchall()


def test_prepared_statements_work_as_far_as_pgbouncer_follows_them(
    make_bouncer: MakeBouncer, behind: MakeSite
) -> None:
    bouncer = make_bouncer(default_pool_size=2)
    options = {"prepare_threshold": 0, "server_side_binding": True}

    def perform() -> None:
        wrappers = [behind(bouncer, OPTIONS=options) for _ in range(2)]
        for number in range(3):
            for wrapper in wrappers:
                wrapper.ensure_connection()
                assert fetch(wrapper, "SELECT 40 + %s::int", [number]) == 40 + number

    if bouncer.version >= (1, 22):
        bouncer.console("SET max_prepared_statements = 100")
        perform()
    else:
        with pytest.raises(DatabaseError, match="prepared statement"):
            perform()


def test_without_server_side_binding_nothing_is_prepared(
    bouncer: PgBouncer, behind: MakeSite
) -> None:
    wrapper = behind(bouncer, OPTIONS={"prepare_threshold": 0})
    wrapper.ensure_connection()
    assert fetch(wrapper, "SELECT 40 + %s", [2]) == 42
    assert fetch(wrapper, "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql") == 0


def test_options_at_the_start_are_refused(bouncer: PgBouncer, behind: MakeSite) -> None:
    wrapper = behind(bouncer, OPTIONS={"options": "-c lock_timeout=4s"})
    with pytest.raises(OperationalError, match="unsupported startup parameter"):
        wrapper.ensure_connection()
