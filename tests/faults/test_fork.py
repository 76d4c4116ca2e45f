"""Parent and child never share a server session, and a child's end ends nothing of the parent's.

Each case forks in a process of its own, whose warnings are errors and whose stderr must stay
empty.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.processes import FORK, run_script


@pytest.fixture
def databases(database: dict[str, Any]) -> dict[str, Any]:
    return {"default": {**database, "OPTIONS": {"pool": {"max_size": 2, "timeout": 5}}}}


def test_a_child_that_queries_has_a_session_of_its_own(databases: dict[str, Any]) -> None:
    run_script(
        FORK
        + """
mine = backend_pid()
def child():
    assert backend_pid() != mine
    connection.close()
    assert backend_pid() != mine
assert fork(child) == 0
assert backend_pid() == mine
""",
        databases,
    )


def test_a_child_leaves_idle_connections_to_the_parent(databases: dict[str, Any]) -> None:
    run_script(
        FORK
        + """
mine = backend_pid()
connection.close()
def child():
    assert backend_pid() != mine
    connection.close_pool()
assert fork(child) == 0
assert backend_pid() == mine
""",
        databases,
    )


@pytest.mark.parametrize("held", [True, False], ids=["lent", "idle"])
@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "connection.close(); sys.exit(0)"])
def test_a_child_that_exits_at_once_ends_nothing(
    databases: dict[str, Any], leave: str, held: bool
) -> None:
    run_script(
        f"""
import sys
mine = backend_pid()
if not {held}:
    connection.close()
if not (pid := os.fork()):
    {leave}
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert backend_pid() == mine
""",
        databases,
    )


def test_a_child_that_collects_its_garbage_ends_nothing(databases: dict[str, Any]) -> None:
    run_script(
        FORK
        + """
import gc
mine = backend_pid()
def child():
    del connections["default"]
    gc.collect()
assert fork(child) == 0
assert backend_pid() == mine
""",
        databases,
    )


def test_a_fork_inside_an_atomic_block(databases: dict[str, Any]) -> None:
    run_script(
        FORK
        + """
from django_pooled_pg.pooling.errors import ForkedInTransaction
from django.db import ProgrammingError
with transaction.atomic():
    mine = backend_pid()
    cursor = connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE marks (n int)")
    def child():
        try:
            backend_pid()
        except ForkedInTransaction as error:
            assert "forked inside an atomic block" in str(error)
            assert isinstance(error, ProgrammingError)
        else:
            raise AssertionError("the child used its parent's transaction")
        connection.close()  # as a child's clean-up does
    assert fork(child) == 0
    cursor.execute("INSERT INTO marks VALUES (1)")
    assert backend_pid() == mine
cursor.execute("SELECT count(*) FROM marks")
assert cursor.fetchone() == (1,)
""",
        databases,
    )


def test_a_child_that_leaves_the_atomic_block_may_query(databases: dict[str, Any]) -> None:
    run_script(
        """
pid = None
mine = None
try:
    with transaction.atomic():
        mine = backend_pid()
        pid = os.fork()
        if not pid:
            raise RuntimeError("leave")
except RuntimeError:
    with transaction.atomic():
        assert backend_pid() != mine
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert backend_pid() == mine
""",
        databases,
    )


def test_a_fork_while_threads_borrow_and_return(databases: dict[str, Any]) -> None:
    """Whatever lock a thread held at the fork, the child works."""
    run_script(
        FORK
        + """
import threading
backend_pid()  # what must be imported is: a lock of Python's import that a fork finds taken stays so
connection.close()
stop = threading.Event()
def borrow():
    while not stop.is_set():
        backend_pid()
        connection.close()
threads = [threading.Thread(target=borrow) for _ in range(4)]
for thread in threads:
    thread.start()
def child():
    backend_pid()
    connection.close()
    connection.close_pool()
try:
    codes = [fork(child) for _ in range(20)]
finally:
    stop.set()
    for thread in threads:
        thread.join()
assert codes == [0] * 20, codes
assert connection.pool.statistics().in_use == 0
""",
        databases,
    )


def test_children_of_children(databases: dict[str, Any]) -> None:
    run_script(
        FORK
        + """
first = backend_pid()
def child():
    second = backend_pid()
    def grandchild():
        assert backend_pid() not in (first, second)
    assert fork(grandchild) == 0
    assert backend_pid() == second
assert fork(child) == 0
assert backend_pid() == first
""",
        databases,
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(databases: dict[str, Any], method: str) -> None:
    run_script(
        f"""
import multiprocessing
multiprocessing.set_start_method({method!r})
from concurrent.futures import ProcessPoolExecutor
from tests.support.in_child import child_backend_pid
mine = backend_pid()
with ProcessPoolExecutor(2) as executor:
    theirs = set(executor.map(child_backend_pid, [json.loads(os.environ["SETTINGS"])] * 4))
assert mine not in theirs, theirs
assert backend_pid() == mine
""",
        databases,
    )


@pytest.mark.parametrize("busy", [True, False], ids=["in a query", "at rest"])
def test_a_child_that_closes_an_inherited_cursor(databases: dict[str, Any], busy: bool) -> None:
    """As when it collects the generator of an `.iterator()` that its parent works on."""
    run_script(
        FORK
        + f"""
import threading
from psycopg.pq import TransactionStatus
transaction.set_autocommit(False)
rows = connection.chunked_cursor()
rows.execute("SELECT generate_series(1, 10)")
rows.fetchone()
raw, pid = connection.connection, connection.connection.info.backend_pid
if {busy}:
    thread = threading.Thread(target=lambda: raw.execute("SELECT pg_sleep(1)"))
    thread.start()
    while raw.pgconn.transaction_status != TransactionStatus.ACTIVE:
        pass
assert fork(rows.close) == 0
if {busy}:
    thread.join()
assert len(rows.fetchall()) == 9
rows.close()
connection.rollback()
transaction.set_autocommit(True)
assert backend_pid() == pid
""",
        databases,
    )
