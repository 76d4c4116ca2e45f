"""Forks that Python doesn't announce, such as uWSGI's; others are in `tests/faults/test_fork.py`.

Under uWSGI itself: `tests/packages/test_uwsgi.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.processes import FORK, run_script

# uWSGI tells nobody of its forks. Here Python knows of them, but nobody who asks it later: a child
# of a process with threads hangs now and then if Python's own locks aren't made anew in it.
UWSGI = (
    FORK
    + """
from types import ModuleType
uwsgi = sys.modules["uwsgi"] = ModuleType("uwsgi")
uwsgi.masterpid = os.getpid
assert "django_pooled_pg.pooling.process.fork" not in sys.modules
os.register_at_fork = lambda **hooks: None
"""
)


@pytest.fixture
def databases(database: dict[str, Any]) -> dict[str, Any]:
    return {"default": {**database, "OPTIONS": {"pool": {"max_size": 2, "timeout": 5}}}}


def test_its_hook_is_taken_and_what_was_there_is_called(databases: dict[str, Any]) -> None:
    run_script(
        UWSGI
        + """
called = []
uwsgi.post_fork_hook = lambda: called.append(os.getpid())
mine = backend_pid()
connection.ensure_connection()  # inherited in use
def child():
    uwsgi.post_fork_hook()
    assert called == [os.getpid()]
    assert connection.connection is None
    assert backend_pid() != mine
assert fork(child) == 0
assert called == []
assert backend_pid() == mine
""",
        databases,
    )


def test_a_borrow_finds_it_out_where_another_hook_took_the_place(databases: dict[str, Any]) -> None:
    run_script(
        UWSGI
        + """
import atexit
mine = backend_pid()
uwsgi.post_fork_hook = lambda: None
def child():
    theirs = backend_pid()
    assert theirs != mine
    assert backend_pid() == theirs
def child_that_returns():
    assert connection.connection is not None
    connection.close()  # as at the beginning of its first request
    assert backend_pid() != mine
def child_that_exits():
    atexit._run_exitfuncs()
assert fork(child) == 0
assert fork(child_that_exits) == 0
connection.ensure_connection()
assert backend_pid() == mine
connection.close_pool()  # so that it is closed when it returns, and nobody may do that but we
assert fork(child_that_returns) == 0
assert backend_pid() == mine
""",
        databases,
    )


def test_a_folder_of_that_name_is_not_uwsgi(databases: dict[str, Any]) -> None:
    run_script(
        UWSGI
        + """
del uwsgi.masterpid
backend_pid()
assert not hasattr(uwsgi, "post_fork_hook")
""",
        databases,
    )
