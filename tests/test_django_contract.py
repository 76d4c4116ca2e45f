"""Fails when a name of Django's that isn't documented, and that we rely on, moves."""

from __future__ import annotations

import inspect

import pytest
from django.db.backends.base import base
from django.db.backends.postgresql import psycopg_any
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.postgresql.client import DatabaseClient
from django.db.backends.signals import connection_created

from django_pooled_pg.client import PooledDatabaseClient
from django_pooled_pg.wrapper import PooledDatabaseMixin

SIGNATURES = {
    "connect": ["self"],
    "close": ["self"],
    "_close": ["self"],
    "close_pool": ["self"],
    "close_if_health_check_failed": ["self"],
    "check_settings": ["self"],
    "get_connection_params": ["self"],
    "get_new_connection": ["self", "conn_params"],
    "init_connection_state": ["self"],
    "set_autocommit": ["self", "autocommit", "force_begin_transaction_with_broken_autocommit"],
    "create_cursor": ["self", "name"],
    "get_autocommit": ["self"],
    "ensure_timezone": ["self"],
    "inc_thread_sharing": ["self"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_method(name: str) -> None:
    assert list(inspect.signature(getattr(DatabaseWrapper, name)).parameters) == SIGNATURES[name]


def test_the_shell_client() -> None:
    ours = PooledDatabaseClient.settings_to_cmd_args_env
    theirs = DatabaseClient.settings_to_cmd_args_env
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert DatabaseWrapper.client_class is DatabaseClient


def test_pool_is_a_property() -> None:
    assert isinstance(DatabaseWrapper.pool, property)


def test_connect_sets_nothing_that_ours_does_not() -> None:
    """Ours stands in place of Django's: it must set whatever Django's sets."""

    def assigned(function: object) -> set[str]:
        lines = inspect.getsource(function).splitlines()  # type: ignore[arg-type]
        left = [line.split(" = ")[0].strip() for line in lines if " = " in line]
        return {
            name.strip().removeprefix("self.")
            for names in left
            for name in names.split(" = ")
            if name.strip().startswith("self.")
        }

    theirs = assigned(inspect.unwrap(base.BaseDatabaseWrapper.connect))
    assert theirs - assigned(inspect.unwrap(PooledDatabaseMixin.connect)) <= {"connection"}
    assert "close_at" in theirs


def test_close_goes_through_our_close() -> None:
    source = inspect.getsource(inspect.unwrap(base.BaseDatabaseWrapper.close))
    assert "self._close()" in source
    assert "self.connection = None" in source


def test_connecting_uses_the_attribute_we_replace() -> None:
    source = inspect.getsource(inspect.unwrap(DatabaseWrapper.get_new_connection))
    assert "self.Database.connect(**conn_params)" in source


def test_names() -> None:
    assert isinstance(base.NO_DB_ALIAS, str)
    assert psycopg_any.is_psycopg3
    assert psycopg_any.IsolationLevel.READ_COMMITTED
    assert connection_created.send
    assert isinstance(connection_created.receivers, list)
    for name in ("in_atomic_block", "closed_in_transaction", "needs_rollback", "run_on_commit"):
        assert name in inspect.getsource(base.BaseDatabaseWrapper.__init__)
