from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.utils.connection import ConnectionDoesNotExist

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring import server
from django_pooled_pg.monitoring.server import ServerSide, Sessions, server_side
from tests.support.queries import connect, fetch, hold, sessions
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]
NAME = "of-test-server"


@pytest.fixture
def named(make_wrapper: MakeWrapper) -> DatabaseWrapper:
    """A wrapper whose sessions can be told from others."""
    # Those of the test before may be on their way out.
    wait_until(lambda: sessions(connection, NAME) == 0, within=30)
    return make_wrapper({"max_size": 2}, OPTIONS={"application_name": NAME})


@pytest.fixture
def asked(make_wrapper: MakeWrapper) -> Iterator[Callable[..., DatabaseWrapper]]:
    """Makes the alias `asked`, in this thread's connections."""

    def make(pool: Any = None, **changes: Any) -> DatabaseWrapper:
        wrapper = make_wrapper(pool, alias="asked", **changes)
        connections["asked"] = wrapper
        return wrapper

    yield make
    if hasattr(connections._connections, "asked"):
        del connections["asked"]


def groups(side: ServerSide) -> dict[str, Sessions]:
    return {group.state: group for group in side.sessions if group.application_name == NAME}


@pytest.fixture
def admin(database: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """A session of the superuser, that no pool knows."""
    with connect(database) as session:
        yield session


@contextmanager
def role(admin: psycopg.Connection[Any], options: str = "") -> Iterator[str]:
    """Somebody who may do nothing special."""
    name = f"guest_{threading.get_native_id()}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame' {options}")
    try:
        yield name
    finally:
        admin.execute(f"DROP ROLE {name}")


def test_sessions_by_host_name_and_state(named: DatabaseWrapper, asked: MakeWrapper) -> None:
    asked()
    hold(named)
    side = server_side("asked")
    assert side.error is None
    (group,) = groups(side).values()
    assert (group.state, group.count, group.longest_transaction) == ("idle", 1, None)
    assert group.host in ("127.0.0.1", "local")
    assert group.longest_in_state is not None
    assert 0 <= group.longest_in_state < 60
    assert side.ours >= 1


def test_idle_in_transaction(named: DatabaseWrapper, asked: MakeWrapper) -> None:
    asked()
    hold(named)
    named.set_autocommit(False)
    fetch(named, "SELECT 1")
    # Later than the transaction's begin, by the server's clock.
    fetch(named, "SELECT pg_sleep(0.05)")
    side = server_side("asked")
    named.rollback()
    assert set(groups(side)) == {"idle in transaction"}
    assert side.idle_in_transaction == 1
    assert side.longest_idle_in_transaction is not None
    assert side.longest_transaction is not None
    assert side.longest_transaction > side.longest_idle_in_transaction
    assert side.longest_transaction >= 0.05


def test_limits_of_the_server(admin: psycopg.Connection[Any], asked: MakeWrapper) -> None:
    asked()

    def setting(name: str) -> int:
        (value,) = admin.execute("SELECT current_setting(%s, true)", [name]).fetchone()  # type: ignore[misc]
        return int(value or 0)

    side = server_side("asked")
    reserved = setting("superuser_reserved_connections") + setting("reserved_connections")
    assert (side.max_connections, side.reserved) == (setting("max_connections"), reserved)
    assert side.allowed == side.max_connections - reserved
    assert side.total >= 1
    assert side.version.split()[0] == admin.info.parameter_status("server_version").split()[0]  # type: ignore[union-attr]


def test_the_one_that_asks_goes_and_is_not_counted(
    named: DatabaseWrapper, asked: MakeWrapper
) -> None:
    wrapper = asked({"max_size": 1})
    hold(wrapper)  # the pool has none left
    before = server_side("asked")
    assert not [group for group in before.sessions if group.application_name == "poolstats"]
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().connects == 1
    wait_until(lambda: sessions(named, "poolstats") == 0)


def test_what_others_do_is_hidden_without_rights(
    admin: psycopg.Connection[Any], asked: MakeWrapper, named: DatabaseWrapper
) -> None:
    hold(named)
    with role(admin, "CONNECTION LIMIT 7") as guest:
        asked(USER=guest, PASSWORD="sesame")
        side = server_side("asked")
        assert side.error is None
        assert side.hidden >= 2  # the admin's and the one held
        assert side.total >= side.hidden
        assert (side.ours, side.role_limit, side.allowed) == (0, 7, 7)
        admin.execute(f"GRANT pg_monitor TO {guest}")
        assert server_side("asked").hidden == 0


def test_sessions_of_another_user_or_database_are_others(
    admin: psycopg.Connection[Any], asked: MakeWrapper, database: dict[str, Any]
) -> None:
    with role(admin) as guest:
        asked(USER=guest, PASSWORD="sesame")
        mine = {"user": guest, "password": "sesame", "application_name": NAME}
        here = DatabaseWrapper(database, "x").get_connection_params()
        with (
            psycopg.connect(**{**here, **mine}),
            psycopg.connect(**{**here, **mine, "dbname": "postgres"}),
        ):
            assert server_side("asked").ours == 1


def test_a_server_that_cannot_be_reached(asked: MakeWrapper) -> None:
    asked(HOST="127.0.0.1", PORT="1", PASSWORD="sesame")
    side = server_side("asked")
    assert side.error is not None
    assert "refused" in side.error
    assert "\n" not in side.error
    assert "sesame" not in side.error
    assert side.as_json() == {"alias": "asked", "error": side.error}


def test_a_server_that_does_not_answer(asked: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECT_SECONDS", 2)  # libpq's least
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked(HOST="127.0.0.1", PORT=str(silent.getsockname()[1]))
        side = server_side("asked")
    assert side.error is not None
    assert "timeout" in side.error


def test_credentials_are_asked_for(
    admin: psycopg.Connection[Any], asked: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with role(admin, "CONNECTION LIMIT 5") as guest:
        asked({"credentials": lambda: {"user": guest, "password": "sesame"}})
        assert server_side("asked").role_limit == 5


def test_credentials_that_fail_tell_no_secret(
    asked: MakeWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> dict[str, Any]:
        raise LookupError("sesame")

    asked({"credentials": fails})
    caplog.set_level(logging.INFO)
    error = server_side("asked").error
    assert error is not None
    assert error.startswith("'credentials' raised LookupError (")
    assert "sesame" not in error + caplog.text


def test_without_a_pool(asked: MakeWrapper) -> None:
    asked(False)
    assert server_side("asked").error is None


def test_bad_settings_are_told(asked: MakeWrapper) -> None:
    asked(NAME="x" * 64)
    error = server_side("asked").error
    assert error is not None
    assert "longer than" in error


def test_unknown_alias() -> None:
    with pytest.raises(ConnectionDoesNotExist):
        server_side("nobody")


def test_json_has_units_and_totals(named: DatabaseWrapper, asked: MakeWrapper) -> None:
    asked()
    hold(named)
    side = server_side("asked")
    shown = json.loads(json.dumps(side.as_json()))
    assert "error" not in shown
    assert (shown["alias"], shown["allowed"], shown["ours"]) == ("asked", side.allowed, side.ours)
    assert shown["longest_transaction_seconds"] == side.longest_transaction
    assert {"host", "state", "count", "longest_in_state_seconds"} <= set(shown["sessions"][0])


def test_long_errors_are_cut() -> None:
    error = server.one_line(ValueError("a\n" * 400))
    assert len(error) < 300
    assert "..." in error


class Hostile:
    """A session of a server that answers what it likes."""

    info = SimpleNamespace(backend_pid=1)

    def __init__(self, limits: tuple[Any, ...], *sessions: tuple[Any, ...]) -> None:
        self._answers = [[limits], list(sessions)]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def transaction(self) -> Any:
        return self

    def cursor(self) -> Any:
        return self

    def execute(self, sql: str, parameters: Any = None) -> Any:
        return self

    def fetchall(self) -> Any:
        return self._answers.pop(0)


def test_a_hostile_servers_words_cannot_steer_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Hostile(
        ("17\x1b[2J", 100, 3, None, None, 5, 0), ("\x1b]0;", "a\nb", "\u202e", 1, 1.0, None)
    )
    monkeypatch.setattr(server, "_connect", lambda wrapper: answer)
    side = server_side("default")
    assert side.version == r"17\x1b[2J"
    (group,) = side.sessions
    assert (group.host, group.application_name, group.state) == (r"\x1b]0;", r"a\nb", r"\u202e")

    def refuses(wrapper: object) -> None:
        raise psycopg.OperationalError("no\x1b[2J\nCRITICAL")

    monkeypatch.setattr(server, "_connect", refuses)
    assert server_side("default").error == r"no\x1b[2J CRITICAL"


@pytest.mark.parametrize("wrong", ["many", None, [1]])
def test_a_text_where_a_number_belongs_is_an_error(
    monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    answer = Hostile(("17", wrong, 3, None, None, 5, 0))
    monkeypatch.setattr(server, "_connect", lambda wrapper: answer)
    assert "logs it at DEBUG" in str(server_side("default").error)


def test_several_servers_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(5)

    def side(alias: str) -> ServerSide:
        together.wait(10)
        return ServerSide(alias=alias)

    monkeypatch.setattr(server, "server_side", side)
    assert [each.alias for each in server.server_sides("edcba")] == list("edcba")
