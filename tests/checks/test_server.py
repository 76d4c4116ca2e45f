"""`server.py`, with what it knows of poolers: `pooler.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.checks import CheckMessage
from django.db import connections
from django.db.backends.postgresql.features import DatabaseFeatures
from django.test import override_settings
from psycopg import sql

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from django_pooled_pg.validation import PoolValidation
from testproject.ports import free_port
from tests.support.pgbouncer import PgBouncer
from tests.support.queries import connect
from tests.support.waiting import wait_until

Check = Callable[..., list[CheckMessage]]

ALIAS = "checked"
# A role and a database of their own: their limits are nobody else's.
OURS = "checks_of_the_server"
NAMES = {"ours": sql.Identifier(OURS)}
NULL = {"pool": {"class": "null"}}


@pytest.fixture(autouse=True)
def no_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UWSGI_PROCESSES", "UWSGI_WORKERS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def check(
    make_wrapper: Callable[..., DatabaseWrapper], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Check]:
    """Run `manage.py check --database` on an alias with other settings, without its app's part."""

    def run(**changes: Any) -> list[CheckMessage]:
        wrapper = make_wrapper(alias=ALIAS, **changes)
        with monkeypatch.context() as patch:
            patch.setitem(connections.databases, ALIAS, wrapper.settings_dict)
            patch.setattr(connections._connections, ALIAS, wrapper, raising=False)
            return PoolValidation(wrapper).check()

    yield run
    assert ALIAS not in {pool.alias for pool in registry.pools()}


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("pooled_pg.") for message in messages]


@pytest.fixture
def execute(database: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
    """Execute SQL as the tests' superuser, with a role and a database `{ours}`."""
    with connect(database) as connection:

        def run(text: Any) -> None:
            connection.execute(sql.SQL(text).format(**NAMES))

        # A run that was killed may have left them.
        run("DROP DATABASE IF EXISTS {ours} WITH (FORCE)")
        run("DROP ROLE IF EXISTS {ours}")
        run("CREATE ROLE {ours} LOGIN")
        run("CREATE DATABASE {ours} OWNER {ours}")
        try:
            yield run
        finally:
            run("DROP DATABASE {ours} WITH (FORCE)")
            run("DROP ROLE {ours}")


def test_the_defaults_give_no_message(check: Check) -> None:
    assert check() == []


def test_without_a_pool_nothing_is_asked(check: Check) -> None:
    assert check(OPTIONS={"pool": False}, PORT="1") == []


# How many connections


def test_too_many_for_the_server(check: Check) -> None:
    with override_settings(POOLED_PG_PROCESSES=1000):
        (message,) = check(OPTIONS={"pool": {"min_size": 5}})
    assert message.id == "pooled_pg.W007"
    assert not message.is_serious()
    assert "1000 processes (POOLED_PG_PROCESSES) x 'max_size' 10 may open 10000" in message.msg
    assert "less 3 reserved" in message.msg
    assert "Even the 5000 of 'min_size'" in message.msg


def test_one_process_alone_is_compared_where_their_number_is_not_known(check: Check) -> None:
    (message,) = check(OPTIONS={"pool": {"max_size": 5000}})
    assert message.id == "pooled_pg.W007"
    assert message.msg.startswith("One process alone, with 'max_size' 5000, may open 5000")


@pytest.mark.parametrize(
    ("limit", "named"),
    [
        ("ALTER ROLE {ours} CONNECTION LIMIT 7", "the user's CONNECTION LIMIT"),
        ("ALTER DATABASE {ours} CONNECTION LIMIT 7", "the database's CONNECTION LIMIT"),
    ],
)
def test_limits_of_the_role_and_the_database(
    check: Check, execute: Callable[[str], Any], limit: str, named: str
) -> None:
    execute(limit)
    with override_settings(POOLED_PG_PROCESSES=2):
        pool = {"max_size": 3}
        assert check(USER=OURS, NAME=OURS, OPTIONS={"pool": pool}) == []
        pool = {"max_size": 4}
        (message,) = check(USER=OURS, NAME=OURS, OPTIONS={"pool": pool})
    assert "2 processes (POOLED_PG_PROCESSES) x 'max_size' 4 may open 8" in message.msg
    assert f"only 7 are allowed ({named})" in message.msg
    assert "at most 3," in str(message.hint)
    assert "Even the" not in message.msg


def test_a_fixed_limit_that_has_no_room_for_all_processes(
    check: Check, execute: Callable[[str], Any]
) -> None:
    execute("ALTER ROLE {ours} CONNECTION LIMIT 7")
    with override_settings(POOLED_PG_PROCESSES=8):
        (message,) = check(USER=OURS, NAME=OURS, OPTIONS={"pool": {"max_size": 1}})
    assert "Even the 8 of 'min_size' don't fit." in message.msg
    assert str(message.hint).startswith("Use fewer processes")


def test_reserved_connections_are_not_for_the_site(check: Check) -> None:
    with connect(connections["default"].settings_dict) as connection:
        row = connection.execute(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        ).fetchone()
    assert row is not None
    assert check(OPTIONS={"pool": {"max_size": row[0]}}) == []
    assert ids(check(OPTIONS={"pool": {"max_size": row[0] + 1}})) == ["W007"]


# What the server does to sessions


@pytest.mark.parametrize(
    ("timeout", "pool", "expected"),
    [
        ("5min", {}, ["W008"]),
        ("500ms", {"max_idle": 1}, ["W008"]),
        ("15min", {}, []),
        ("5min", {"max_idle": 60}, []),
        ("0", {}, []),
    ],
)
def test_idle_session_timeout(
    check: Check,
    execute: Callable[[str], Any],
    timeout: str,
    pool: dict[str, Any],
    expected: list[str],
) -> None:
    execute(f"ALTER ROLE {{ours}} SET idle_session_timeout = '{timeout}'")
    assert ids(check(USER=OURS, NAME=OURS, OPTIONS={"pool": pool})) == expected


def test_a_server_that_is_too_old(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatabaseFeatures, "minimum_database_version", (99,))
    # Django looks once in a process.
    monkeypatch.setattr("django.db.backends.base.base.RAN_DB_VERSION_CHECK", set())
    (message,) = check()
    assert message.id == "pooled_pg.E003"
    assert message.is_serious()
    assert "PostgreSQL 99 or later is required" in message.msg


# A server that can't be asked


def test_a_server_that_is_not_there_is_a_warning(check: Check) -> None:
    (message,) = check(HOST="127.0.0.1", PORT=str(free_port()), PASSWORD="secret-word")
    assert message.id == "pooled_pg.W006"
    assert not message.is_serious()
    assert "Connection refused" in message.msg
    assert "\n" not in message.msg
    assert "secret-word" not in str(message)


def test_a_wrong_parameter_is_a_warning(check: Check) -> None:
    (message,) = check(OPTIONS={"sslmod": "require"})
    assert message.id == "pooled_pg.W006"
    assert "sslmod" in message.msg


def test_an_error_of_ones_own_code_is_named_but_not_quoted(
    check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    def credentials() -> dict[str, Any]:
        raise ValueError("token=secret-word")

    caplog.set_level("DEBUG", "django_pooled_pg.pooling.untold")
    (message,) = check(OPTIONS={"pool": {"credentials": credentials}})
    assert message.id == "pooled_pg.W006"
    assert "ValueError" in message.msg
    assert "secret-word" not in str(message)
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert record.exc_info


def test_a_server_that_refuses_the_second_question_is_a_warning(
    check: Check, execute: Callable[[str], Any], database: dict[str, Any]
) -> None:
    # A limit of 1, which another session of the role takes between the two.
    taken: list[psycopg.Connection[Any]] = []

    class TakesTheRoom(psycopg.Connection[Any]):
        def close(self) -> None:
            super().close()
            if not taken:
                taken.append(wait_until(self._take))

        def _take(self) -> psycopg.Connection[Any] | None:
            try:
                return connect(database, user=OURS, dbname=OURS)
            except psycopg.OperationalError:  # the server isn't done with the first one
                return None

    execute("ALTER ROLE {ours} CONNECTION LIMIT 1")
    try:
        pool = {"connection_class": TakesTheRoom}
        (message,) = check(USER=OURS, NAME=OURS, OPTIONS={"pool": pool})
    finally:
        for connection in taken:
            connection.close()
    assert message.id == "pooled_pg.W006"
    assert "too many connections for role" in message.msg


# Poolers


def test_the_null_pool_without_a_pooler(check: Check) -> None:
    assert ids(check(OPTIONS=NULL)) == ["I006"]


@pytest.fixture
def pgbouncer(
    request: pytest.FixtureRequest, database: dict[str, Any], tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """PgBouncer in the mode given, in front of the tests' server: the settings that change."""
    with PgBouncer(tmp_path, database, auth_type="trust", pool_mode=request.param) as bouncer:
        yield bouncer.settings


@pytest.mark.parametrize("pgbouncer", ["transaction"], indirect=True)
def test_a_pooler_that_lends_a_session_per_transaction_is_found(
    check: Check, pgbouncer: dict[str, Any]
) -> None:
    off = {"DISABLE_SERVER_SIDE_CURSORS": True}
    wrong = {"prepare_threshold": 5, "server_side_binding": True, "assume_role": "pg_monitor"}
    assert ids(check(**pgbouncer, OPTIONS=wrong)) == ["W002", "W003", "W009", "I001"]
    assert ids(check(**pgbouncer, **off)) == ["I001"]
    # As it should be; and what the settings alone tell isn't told twice.
    assert check(**pgbouncer, **off, OPTIONS=NULL) == []
    assert check(**pgbouncer, OPTIONS=NULL) == []


@pytest.mark.parametrize("pgbouncer", ["transaction"], indirect=True)
def test_a_busy_pooler_is_found_too(
    check: Check, pgbouncer: dict[str, Any], database: dict[str, Any]
) -> None:
    made: list[psycopg.Connection[Any]] = []

    class AmongOthers(psycopg.Connection[Any]):
        """Before the second connection, somebody's transaction takes the first one's session."""

        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            if made:
                made.append(connect({**database, **pgbouncer}, autocommit=False))
                made[-1].execute("SELECT 1")
            made.append(super().connect(*args, **kwargs))
            return made[-1]

    try:
        assert ids(check(**pgbouncer, OPTIONS={"pool": {"connection_class": AmongOthers}})) == [
            "W002",
            "I001",
        ]
        assert len(made) == 3
    finally:
        for connection in made:
            connection.close()


@pytest.mark.parametrize("pgbouncer", ["session"], indirect=True)
def test_a_pooler_that_lends_a_session_to_the_end_is_like_a_server(
    check: Check, pgbouncer: dict[str, Any]
) -> None:
    assert check(**pgbouncer) == []
    # How many connections the pooler makes is its own matter.
    assert check(**pgbouncer, OPTIONS={"pool": {"max_size": 5000}}) == []
