"""The wrapper as a whole: `wrapper/pool.py`, `wrapper/borrowing.py`, `wrapper/cursors.py`.

`wrapper/early.py` is tested in `tests/return_at/`, sessions as `opening.py` opens them here, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError
from django.test import override_settings

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.wrapper import PooledDatabaseMixin
from tests.support.queries import backend_pid, connect, fetch, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


def idle(wrapper: DatabaseWrapper, count: int = 1) -> None:
    """Wait until that many connections are idle: a return ends in the background."""
    pool = wrapper.pool
    assert pool is not None
    wait_until(lambda: pool.statistics().idle == count)


def in_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(10)
    return result[0]


# Borrow and return


def test_a_query_borrows_and_close_returns(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().size == 0
    pid = hold(wrapper)
    assert wrapper.pool.statistics().in_use == 1
    wrapper.close()
    idle(wrapper)
    assert hold(wrapper) == pid
    assert wrapper.pool.statistics().connects == 1


def test_wrappers_of_one_alias_share_the_pool(make_wrapper: MakeWrapper) -> None:
    a = make_wrapper(alias="shared")
    b = make_wrapper(alias="shared")
    assert a.pool is b.pool
    pid = backend_pid(a)
    a.close()
    idle(a)
    assert backend_pid(b) == pid


def test_aliases_have_pools_of_their_own(make_wrapper: MakeWrapper) -> None:
    a, b = make_wrapper(), make_wrapper()
    assert a.pool is not b.pool


def test_closing_inside_an_atomic_block_works_as_ever(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    backend_pid(wrapper)
    wrapper.set_autocommit(False)
    wrapper.in_atomic_block = True
    wrapper.close()
    assert wrapper.closed_in_transaction
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().in_use == 0


def test_an_open_transaction_is_rolled_back_before_the_next_borrower(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper(pool={"max_size": 1})
    with wrapper.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("CREATE TABLE left_open (n int)")
    wrapper.close()
    assert fetch(wrapper, "SELECT to_regclass('left_open')") is None


def test_a_broken_connection_is_not_lent_again(make_wrapper: MakeWrapper) -> None:
    wrapper, other = make_wrapper(), make_wrapper()
    pid = hold(wrapper)
    fetch(other, "SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(OperationalError):
        backend_pid(wrapper)
    wrapper.close()
    assert backend_pid(wrapper) != pid


def test_a_server_that_cannot_be_reached_is_told_as_ever(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"timeout": 60}, NAME="no_such_database")
    with pytest.raises(OperationalError, match='database "no_such_database" does not exist'):
        wrapper.ensure_connection()


def test_without_a_pool_it_is_djangos_own_engine(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool=False)
    assert wrapper.pool is None
    connection = wrapper.connection
    pid = backend_pid(wrapper)
    connection = wrapper.connection
    wrapper.close()
    assert connection.closed
    assert backend_pid(wrapper) != pid
    wrapper.close_pool()


def test_a_bad_setting_is_told_when_the_pool_opens(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"maxsize": 1})
    with pytest.raises(ImproperlyConfigured, match="did you mean 'max_size'"):
        wrapper.ensure_connection()
    wrapper.settings_dict["OPTIONS"]["pool"] = {}


def test_settings_are_left_as_they_were(make_wrapper: MakeWrapper) -> None:
    options = {"pool": {"max_size": 2}, "assume_role": None}
    wrapper = make_wrapper(OPTIONS=options)
    backend_pid(wrapper)
    assert options == {"pool": {"max_size": 2}, "assume_role": None}


def test_changed_settings_reach_the_next_borrow(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    first = wrapper.pool
    backend_pid(wrapper)
    wrapper.close()
    wrapper.settings_dict["OPTIONS"]["application_name"] = "changed"
    assert fetch(wrapper, "SHOW application_name") == "changed"
    assert wrapper.pool is not first


def test_settings_changed_in_place_close_the_pool_they_had(make_wrapper: MakeWrapper) -> None:
    """As a test runner changes NAME: nothing may stay connected to the database it was."""
    wrapper = make_wrapper(alias="renamed")
    of_another_thread = DatabaseWrapper(wrapper.settings_dict, "renamed")
    first = wrapper.pool
    assert first is not None
    backend_pid(wrapper)
    wrapper.close()
    wrapper.settings_dict["TIME_ZONE"] = "Asia/Tokyo"
    backend_pid(wrapper)
    wrapper.close()
    assert first.statistics().size == 0
    # One that has not noticed, and borrows from it again, doesn't escape close_pool().
    first.give_back(first.borrow())
    of_another_thread.close_pool()
    assert first.statistics().size == 0
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().size == 0


def test_settings_of_requests_may_change_while_the_pool_stays(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    pid = hold(wrapper)
    wrapper.settings_dict.update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    wrapper.close()
    idle(wrapper)
    assert hold(wrapper) == pid
    wrapper.close_if_unusable_or_obsolete()
    assert wrapper.connection is not None, "as Django does with CONN_MAX_AGE=None"


# What Django configures


def test_options_reach_the_session(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(
        OPTIONS={
            "isolation_level": psycopg.IsolationLevel.SERIALIZABLE,
            "application_name": "options",
            "options": "-c work_mem=5MB",
        }
    )
    with transaction_on(wrapper):
        assert fetch(wrapper, "SHOW transaction_isolation") == "serializable"
    assert wrapper.isolation_level == psycopg.IsolationLevel.SERIALIZABLE
    assert fetch(wrapper, "SHOW application_name") == "options"
    assert fetch(wrapper, "SHOW work_mem") == "5MB"


class transaction_on(transaction.Atomic):
    """An atomic block on a wrapper that isn't among `connections`."""

    def __init__(self, wrapper: DatabaseWrapper) -> None:
        super().__init__(wrapper.alias, savepoint=True, durable=False)
        self.wrapper = wrapper

    def __enter__(self) -> None:
        connections[self.wrapper.alias] = self.wrapper
        super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        del connections[self.wrapper.alias]


def test_server_side_binding(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(OPTIONS={"server_side_binding": True})
    hold(wrapper)
    assert wrapper.connection.cursor_factory is not psycopg.ClientCursor
    plain = make_wrapper()
    hold(plain)
    assert plain.connection.cursor_factory is not wrapper.connection.cursor_factory


def test_assumed_role(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(OPTIONS={"assume_role": "pg_monitor"})
    assert fetch(wrapper, "SELECT current_user") == "pg_monitor"
    wrapper.close()
    assert fetch(wrapper, "SELECT current_user") == "pg_monitor"


def test_service_file(
    make_wrapper: MakeWrapper,
    database: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "services"
    file.write_text(
        f"[books]\nhost={database['HOST']}\nport={database['PORT']}\n"
        f"user={database['USER']}\ndbname={database['NAME']}\npassword={database['PASSWORD']}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    wrapper = make_wrapper(
        OPTIONS={"service": "books"}, HOST="", PORT="", USER="", NAME="", PASSWORD=""
    )
    assert fetch(wrapper, "SELECT current_database()") == database["NAME"]


def test_time_zone_of_one_connection(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(TIME_ZONE="Asia/Tokyo")
    assert fetch(wrapper, "SHOW TimeZone") == "Asia/Tokyo"


def test_overridden_time_zone_reaches_pooled_connections(make_wrapper: MakeWrapper) -> None:
    # As django.test.signals does it for each connection when a test overrides the setting.
    wrapper = make_wrapper()
    assert fetch(wrapper, "SHOW TimeZone") == "UTC"
    wrapper.close()
    idle(wrapper)
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris"):
        vars(wrapper).pop("timezone_name", None)
        wrapper.ensure_timezone()
        assert fetch(wrapper, "SHOW TimeZone") == "Europe/Paris"
    vars(wrapper).pop("timezone_name", None)
    wrapper.ensure_timezone()
    wrapper.close()
    assert fetch(wrapper, "SHOW TimeZone") == "UTC"


def test_autocommit_off(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(AUTOCOMMIT=False, alias="auto")
    assert not wrapper.get_autocommit()
    pid = backend_pid(wrapper)
    wrapper.close()
    idle(wrapper)
    assert not wrapper.get_autocommit()
    assert backend_pid(wrapper) == pid


def test_autocommit_switched_off_does_not_reach_the_next_borrower(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    wrapper.set_autocommit(False)
    pid = hold(wrapper)
    wrapper.close()
    idle(wrapper)
    assert wrapper.get_autocommit()
    assert hold(wrapper) == pid
    assert wrapper.connection.autocommit


def test_nodb_cursor_needs_no_pool(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(NAME="no_such_database")
    with wrapper._nodb_cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("postgres",)
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().connects == 0


def test_connection_class_from_the_pool_options(make_wrapper: MakeWrapper) -> None:
    class Mine(psycopg.Connection[Any]):
        pass

    wrapper = make_wrapper(pool={"connection_class": Mine})
    wrapper.ensure_connection()
    assert isinstance(wrapper.connection, Mine)


# Signals


def test_connection_created_once_for_a_session_and_once_for_a_wrapper(
    make_wrapper: MakeWrapper,
) -> None:
    seen: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        seen.append(connection)

    connection_created.connect(receiver)
    try:
        wrapper = make_wrapper(alias="signals")
        for _ in range(3):
            backend_pid(wrapper)
            wrapper.close()
            idle(wrapper)
        assert seen == [wrapper]
        # Receivers install execute wrappers: a wrapper that is new must meet them.
        other = make_wrapper(alias="signals")
        backend_pid(other)
        assert seen == [wrapper, other]
    finally:
        connection_created.disconnect(receiver)


def test_a_receiver_that_comes_late_is_told_of_sessions_that_are_there(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    pid = backend_pid(wrapper)
    wrapper.close()
    seen: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        seen.append(connection)

    connection_created.connect(receiver)
    try:
        for _ in range(2):
            idle(wrapper)
            assert backend_pid(wrapper) == pid
            wrapper.close()
    finally:
        connection_created.disconnect(receiver)
    assert seen == [wrapper]


def test_a_failing_receiver_returns_the_connection(make_wrapper: MakeWrapper) -> None:
    def receiver(**kwargs: Any) -> None:
        raise ValueError("no")

    wrapper = make_wrapper(pool={"max_size": 1})
    connection_created.connect(receiver)
    try:
        with pytest.raises(ValueError, match="no"):
            wrapper.ensure_connection()
    finally:
        connection_created.disconnect(receiver)
    assert wrapper.connection is None
    assert backend_pid(wrapper)


# close_pool


def test_close_pool_from_anywhere_at_any_time(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(alias="closing")
    other = make_wrapper(alias="closing")
    other.close_pool()  # before there is anything to close
    pid = hold(wrapper)
    in_thread(other.close_pool)
    assert hold(wrapper) == pid, "a lease goes on until it is returned"
    wrapper.close()
    assert hold(wrapper) != pid
    wrapper.close()
    idle(wrapper)
    wrapper.close_pool()
    wrapper.close_pool()
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().size == 0


def test_close_pool_leaves_the_pool_to_celerys_next_task(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    pid = hold(wrapper)
    celery: dict[str, Any] = {"__name__": "celery.fixups.django"}
    exec("def close(conn): conn.close(); conn.close_pool()", celery)
    celery["close"](wrapper)
    assert hold(wrapper) == pid
    wrapper.close()
    wrapper.close_pool()
    assert hold(wrapper) != pid


def test_the_default_connection_is_pooled() -> None:
    assert isinstance(connections[DEFAULT_DB_ALIAS], PooledDatabaseMixin)


# What others put around Django's methods


def test_another_mixins_create_cursor_has_its_say(make_wrapper: MakeWrapper) -> None:
    made = []

    class Noting(PostgreSQLDatabaseWrapper):
        def create_cursor(self, name: str | None = None) -> Any:
            made.append(name)
            return super().create_cursor(name)

    class Engine(PooledDatabaseMixin, Noting):
        pass

    wrapper = Engine(make_wrapper().settings_dict, "noting")
    try:
        hold(wrapper)
        made.clear()
        assert fetch(wrapper, "SELECT 1") == 1
    finally:
        wrapper.close()
        wrapper.close_pool()
    assert made == [None]


def test_whoever_blocks_the_database_blocks_an_open_connection_too(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pytest-django does for tests that didn't ask for the database."""
    wrapper = make_wrapper()
    hold(wrapper)

    def refuse(self: Any) -> None:
        raise RuntimeError("no database here")

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    with pytest.raises(RuntimeError, match="no database here"):
        wrapper.cursor()


def test_whoever_replaces_ensure_connection_may_call_the_wrappers_own(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a test of Django's does, to query whenever a connection was opened."""
    wrapper = make_wrapper()
    hold(wrapper)
    wrapper.close()  # so that none has to be opened, in another thread
    own = wrapper.ensure_connection
    calls = []

    def replaced(self: Any) -> None:
        calls.append(self.connection)
        own()

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", replaced)
    wrapper.ensure_connection()
    assert calls == [None]
    assert fetch(wrapper, "SELECT 1") == 1
    assert wrapper.connection is not None, "it was asked for"


def test_an_error_of_a_borrow_is_djangos_wherever_it_begins(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(USER="nobody_knows", AUTOCOMMIT=False)
    for begin in (wrapper.cursor, wrapper.ensure_connection, wrapper.get_autocommit):
        with pytest.raises(OperationalError) as caught:
            begin()
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_an_interrupt_as_close_begins_loses_nothing(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django forgets the connection, whatever becomes of it."""
    wrapper = make_wrapper()
    hold(wrapper)
    assert wrapper.pool is not None

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(wrapper, "_close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wrapper.close()
    assert wrapper.pool.statistics().in_use == 0


def test_a_connection_that_django_forgot_goes_back(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 1})
    hold(wrapper)
    assert wrapper.pool is not None
    wrapper.connection = None
    wait_until(wrapper.pool.strays.find)
    assert fetch(wrapper, "SELECT 1") == 1
    wrapper.close()
    assert wrapper.pool.statistics().in_use == 0


@pytest.mark.parametrize(
    "engine", [DatabaseWrapper, PostgreSQLDatabaseWrapper], ids=["ours", "Django's"]
)
def test_a_savepoint_that_can_not_be_rolled_back_dooms_its_block_as_ever(
    database: dict[str, Any], engine: type[PostgreSQLDatabaseWrapper], django_db_blocker: Any
) -> None:
    alias = f"doomed_{engine.__module__}"
    connections[alias] = wrapper = engine(database, alias)
    try:
        with django_db_blocker.unblock(), transaction.atomic(alias):
            pid = backend_pid(wrapper)
            try:
                with transaction.atomic(alias):
                    with connect(database) as killer:
                        killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                    raise ZeroDivisionError
            except ZeroDivisionError:
                assert transaction.get_rollback(alias)
    finally:
        wrapper.close()
        wrapper.close_pool()
        del connections[alias]
