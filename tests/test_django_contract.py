"""Fails when an undocumented name of Django's that we rely on moves.

All of them are used in `wrapper/`, `cursor_wrapper.py`, `announcing.py`, `opening.py`, `client.py`,
`testing/` and `around_connect.py`; `tests/test_around_connect.py` has what the last one needs.
"""

from __future__ import annotations

import inspect
import sys
import threading

import pytest
from django.conf import settings
from django.db.backends.base import base
from django.db.backends.postgresql import psycopg_any
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.postgresql.client import DatabaseClient
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper as DjangoCursorWrapper
from django.db.transaction import Atomic
from django.test import TestCase, override_settings

from django_pooled_pg.client import PooledDatabaseClient
from django_pooled_pg.cursor_wrapper import CursorWrapper
from django_pooled_pg.pooling.session.use import _OF_CURSORS
from django_pooled_pg.wrapper import PooledDatabaseMixin
from django_pooled_pg.wrapper.cursors import _settings

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
    "prepare_database": ["self"],
    "schema_editor": ["self", "args", "kwargs"],
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
    ours = assigned(PooledDatabaseMixin._borrow)
    assert theirs - ours <= {"connection", "conn_params", "max_age"}
    assert "close_at" in theirs


def test_cursors_are_made_as_ours_makes_them() -> None:
    making = inspect.getsource(base.BaseDatabaseWrapper._cursor)
    for step in (
        "self.close_if_health_check_failed()",
        "self.ensure_connection()",
        "self._prepare_cursor(self.create_cursor(name))",
    ):
        assert step in making
    assert len(making.strip().splitlines()) == 5, "a step more"
    preparing = inspect.getsource(base.BaseDatabaseWrapper._prepare_cursor)
    for step in (
        "self.validate_thread_sharing()",
        "if self.queries_logged:",
        "self.make_debug_cursor(cursor)",
        "self.make_cursor(cursor)",
    ):
        assert step in preparing
    assert {"fetchone", "fetchmany", "fetchall"} <= CursorWrapper.WRAP_ERROR_ATTRS


def test_attributes_that_tell_whose_a_connection_is() -> None:
    wrapper = DatabaseWrapper({}, "nowhere")
    assert wrapper._thread_ident == threading.get_ident()
    assert wrapper._thread_sharing_count == 0
    checking = inspect.getsource(base.BaseDatabaseWrapper.validate_thread_sharing)
    assert "self._thread_ident == _thread.get_ident()" in checking


def test_hooks_run_when_autocommit_is_back() -> None:
    source = inspect.getsource(base.BaseDatabaseWrapper.set_autocommit)
    assert source.index("self.autocommit = autocommit") < source.index(
        "self.run_and_clear_commit_hooks()"
    )


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


def test_blocks_of_test_cases_are_marked() -> None:
    block = Atomic(None, savepoint=True, durable=False)
    assert block._from_testcase is False
    assert "_from_testcase = True" in inspect.getsource(TestCase._enter_atomics)  # type: ignore[attr-defined]
    assert "atomic_blocks.append(self)" in inspect.getsource(Atomic.__enter__)
    for saving, statement in [("create", "SAVEPOINT "), ("commit", "RELEASE SAVEPOINT "),
                              ("rollback", "ROLLBACK TO ")]:  # fmt: skip
        made = getattr(DatabaseWrapper.ops_class, f"savepoint_{saving}_sql")
        assert f'"{statement}' in inspect.getsource(made)


def test_a_cursor_wrapper_has_two_attributes() -> None:
    made = DjangoCursorWrapper(None, None)  # type: ignore[arg-type]
    assert vars(made) == {"cursor": None, "db": None}
    assert vars(CursorWrapper.around(None, None)) == vars(made)


def test_settings_keep_what_was_asked_for_in_their_dict() -> None:
    """`DEBUG` is read there; what a test overrides isn't there any more."""
    with override_settings(DEBUG=True):
        assert settings.DEBUG is True
        assert _settings.get("DEBUG") is True
        with override_settings(DEBUG=False):
            assert _settings.get("DEBUG") in (None, False)
            assert settings.DEBUG is False
        assert _settings.get("DEBUG") in (None, True)


def test_psycopgs_cursors_ask_for_their_connection_in_the_module_we_know() -> None:
    module = sys.modules["psycopg._cursor_base"]
    assert vars(module) is _OF_CURSORS
    assert "Transformer(self)" in inspect.getsource(module)
