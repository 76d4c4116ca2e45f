from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from django_pooled_pg import DeadlineExceeded, RequestAbandoned, deadline
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring.snapshot import process_snapshot
from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.work import Work
from tests.conftest import MakeWrapper
from tests.monitoring.members import DATABASES
from tests.support.processes import FORK, run_script
from tests.support.queries import fetch, hold
from tests.support.waiting import wait_until


def test_names_this_process() -> None:
    snapshot = process_snapshot()
    assert (snapshot["version"], snapshot["pid"], snapshot["parent_pid"]) == (
        1,
        os.getpid(),
        os.getppid(),
    )


def test_tells_pools_but_no_connection_parameters() -> None:
    databases = {
        "default": {
            **DATABASES["default"],
            "USER": "secret-user",
            "HOST": "secret-host",
            "OPTIONS": {"passfile": "secret-file", "pool": {"max_size": 3, "name": "web"}},
        }
    }
    out = run_script(
        """
from django_pooled_pg.monitoring.snapshot import process_snapshot
connection.pool
print(json.dumps(process_snapshot()))
""",
        databases,
    )
    (pool,) = json.loads(out)["pools"]
    assert (pool["alias"], pool["name"], pool["max_size"]) == ("default", "web", 3)
    assert (pool["borrows"], pool["wait"]["total"]) == (0, 0.0)
    assert "secret" not in out
    assert "sesame" not in out


def test_a_forked_child_has_its_own_clock_and_parent() -> None:
    run_script(
        """
from django_pooled_pg.monitoring.snapshot import process_snapshot
before = process_snapshot()
if (child := os.fork()) == 0:
    after = process_snapshot()
    ok = after["started"] > before["started"] and after["parent_pid"] == before["pid"]
    os._exit(0 if ok and after["pid"] == os.getpid() != before["pid"] else 1)
assert os.waitpid(child, 0)[1] == 0
assert process_snapshot()["started"] == before["started"]
""",
        DATABASES,
    )


# Work that isn't wanted any more


def holders_of(wrapper: DatabaseWrapper) -> list[dict[str, Any]]:
    held = process_snapshot(holders=10)["holders"]
    return [holder for holder in held if holder["alias"] == wrapper.alias]


def counted(wrapper: DatabaseWrapper) -> tuple[int, int, int]:
    assert wrapper.pool is not None
    s = wrapper.pool.statistics()
    return s.abandoned_waiting, s.abandoned_working, s.deadlines


@contextmanager
def visited() -> Iterator[socket.socket]:
    """Work for a client at the other end of a socket, which is yielded: it leaves by closing it."""
    ours, theirs = socket.socketpair()

    def has_gone() -> bool:
        try:
            return ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False

    work = Work(has_gone=has_gone)
    with ours, theirs:
        watcher.enter(work)
        try:
            yield theirs
        finally:
            watcher.leave(work)


def test_a_client_that_leaves_during_a_statement_is_counted_and_shown(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    hold(wrapper)
    with visited() as visitor:
        fetch(wrapper, "SELECT 1")
        (holder,) = holders_of(wrapper)
        assert (holder["abandoned"], holder["remaining"]) == (False, None)
        leaving = threading.Timer(0.1, visitor.close)
        leaving.start()
        with pytest.raises(RequestAbandoned):
            fetch(wrapper, "SELECT pg_sleep(30)")
        leaving.join()
        assert counted(wrapper) == (0, 1, 0)
        assert holders_of(wrapper)[0]["abandoned"]
        with pytest.raises(RequestAbandoned):  # it counts once
            fetch(wrapper, "SELECT 1")
        assert counted(wrapper) == (0, 1, 0)
    # The connection outlives the request: what is done with it now is somebody else's.
    assert not holders_of(wrapper)[0]["abandoned"]


def test_a_client_that_leaves_between_statements_is_shown(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    hold(wrapper)
    with visited() as visitor:
        fetch(wrapper, "SELECT 1")
        visitor.close()
        wait_until(lambda: holders_of(wrapper)[0]["abandoned"])
        assert counted(wrapper) == (0, 0, 0)  # nothing was stopped yet


def test_a_client_that_leaves_while_its_request_waits_is_counted(
    make_wrapper: MakeWrapper,
) -> None:
    holder = make_wrapper({"max_size": 1}, alias="abandoned")
    hold(holder)
    waiter = make_wrapper({"max_size": 1}, alias="abandoned")
    with visited() as visitor:
        visitor.close()
        with pytest.raises(RequestAbandoned):
            waiter.ensure_connection()
    assert counted(holder) == (1, 0, 0)
    assert not holders_of(holder)[0]["abandoned"]  # it is held by somebody else


def test_a_deadline_is_counted_and_shown(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    hold(wrapper)
    with deadline(60):
        with pytest.raises(DeadlineExceeded), deadline(0.1):
            fetch(wrapper, "SELECT pg_sleep(30)")
        assert counted(wrapper) == (0, 0, 1)
        # That block has ended; the one around it goes on.
        (holder,) = holders_of(wrapper)
        assert 0 < holder["remaining"] <= 60
        with deadline(0.01):
            with pytest.raises(DeadlineExceeded):
                fetch(wrapper, "SELECT pg_sleep(30)")
            assert holders_of(wrapper)[0]["remaining"] == 0.0
    assert holders_of(wrapper)[0]["remaining"] is None


def test_counts_of_stopped_work_start_at_zero_in_a_child(database: dict[str, Any]) -> None:
    script = f"""
{FORK}
from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.pooling import registry
def exceed():
    try:
        with deadline(0.01), connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")
    except DeadlineExceeded:
        pass
def deadlines():
    return sum(pool.deadlines for pool in registry.statistics())
exceed()
assert deadlines() == 1
def child():
    assert deadlines() == 0
    exceed()
    assert deadlines() == 1
assert fork(child) == 0
"""
    run_script(script, {"default": {**database, "ENGINE": "django_pooled_pg"}})
