"""Fails when a private name of psycopg_pool moves: see `backing/base.py`.

Also what `pool.py`, `null.py` and `claim.py` do with them.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg_pool
import pytest
from psycopg_pool import ConnectionPool, NullConnectionPool
from psycopg_pool import pool as module
from psycopg_pool.base import AttemptWithBackoff
from psycopg_pool.sched import Scheduler

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.backing.claim import Claim, ConnectFailed
from django_pooled_pg.pooling.backing.null import NullBacking
from django_pooled_pg.pooling.backing.pool import Backing, ShortBackoff
from django_pooled_pg.pooling.process.locks import Lock
from tests.support.queries import connect


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


@pytest.fixture(params=[ConnectionPool, NullConnectionPool], ids=["pool", "null"])
def theirs(request: pytest.FixtureRequest) -> ConnectionPool:
    pool: ConnectionPool = request.param("", min_size=0, max_size=2, open=False)
    return pool


def test_attributes_exist_with_their_types(theirs: ConnectionPool) -> None:
    assert isinstance(theirs._pool, deque)
    assert isinstance(theirs._waiting, deque)
    assert isinstance(theirs._workers, list)
    assert theirs._nconns == 0
    assert theirs._min_size == 0
    assert theirs._opened is False
    assert theirs._closed is True
    assert theirs._drained_at == 0.0
    assert theirs._pool_full_event is None
    assert type(theirs._lock) is type(threading.RLock())


def test_methods_exist_with_their_signatures() -> None:
    assert parameters(ConnectionPool._start_initial_tasks) == ["self"]
    assert parameters(ConnectionPool._maybe_grow_pool) == ["self"]
    assert parameters(ConnectionPool._add_connection) == ["self", "attempt", "growing"]
    assert parameters(ConnectionPool._check_open_getconn) == ["self"]
    assert parameters(ConnectionPool._add_to_pool) == ["self", "conn"]
    assert parameters(ConnectionPool._get_ready_connection) == ["self", "timeout"]
    assert parameters(NullConnectionPool._get_ready_connection) == ["self", "timeout"]
    assert parameters(NullConnectionPool._connect) == ["self", "timeout"]
    assert parameters(module.AddConnection.__init__) == ["self", "pool", "attempt", "growing"]
    assert parameters(module.ReturnConnection.__init__) == ["self", "pool", "conn", "from_getconn"]
    assert parameters(module.WaitingClient.wait) == ["self", "timeout"]
    assert parameters(module.WaitingClient.set) == ["self", "conn"]
    assert parameters(module.WaitingClient.fail) == ["self", "error"]
    assert parameters(module.MaintenanceTask.run) == ["self"]
    assert parameters(ConnectionPool.run_task) == ["self", "task"]
    assert parameters(AttemptWithBackoff.__init__) == ["self", "timeout"]
    assert parameters(AttemptWithBackoff.update_delay) == ["self", "now"]
    assert parameters(module.Schedule.__init__) == ["self", "pool", "task", "delay"]
    assert parameters(module.ShrinkPool.__init__) == ["self", "pool"]
    assert parameters(module.StopWorker.__init__) == ["self", "pool"]
    assert parameters(Scheduler.enter) == ["self", "delay", "action"]


def test_a_worker_takes_its_tasks_one_by_one_from_the_queue(theirs: ConnectionPool) -> None:
    assert parameters(theirs.worker) == ["q"]
    assert "task := q.get()" in inspect.getsource(theirs.worker)
    assert theirs.num_workers == 3
    assert module.ShrinkPool(theirs).pool() is theirs


def test_connecting_goes_through_the_connection_class() -> None:
    source = inspect.getsource(ConnectionPool._connect)
    assert "self.connection_class.connect(" in source


def test_a_waiting_client_can_be_failed() -> None:
    client = Claim()
    assert (client.conn, client.error) == (None, None)
    assert client.fail(ConnectFailed(OSError("no"))) is True
    assert isinstance(client.error, ConnectFailed)


def test_a_connection_knows_when_to_go() -> None:
    source = inspect.getsource(ConnectionPool._return_connection)
    assert "conn._created_at <= self._drained_at or conn._expire_at <= monotonic()" in source
    assert "self._add_to_pool(conn)" in source


def test_a_claim_needs_nothing_of_the_one_it_extends() -> None:
    assert set(module.WaitingClient.__slots__) == {"conn", "error", "_cond"}


def test_ours_replace_what_they_mean_to_replace() -> None:
    assert Backing._add_connection is not ConnectionPool._add_connection
    assert Backing._start_initial_tasks is not ConnectionPool._start_initial_tasks
    assert NullBacking._start_initial_tasks is not Backing._start_initial_tasks


def test_the_backoff_stays_short() -> None:
    backoff, now, delays = ShortBackoff(timeout=3600), 0.0, []
    for _ in range(40):
        backoff.update_delay(now)
        now += backoff.delay
        delays.append(backoff.delay)
    assert delays[0] < 0.2
    assert max(delays) <= ShortBackoff.LONGEST_DELAY


def test_version_is_one_that_was_read() -> None:
    major_minor = tuple(map(int, psycopg_pool.__version__.split(".")[:2]))
    assert major_minor == (3, 3), "read psycopg_pool again: see backing/base.py"


def test_own_worker_is_recognised() -> None:
    pool = Backing("", min_size=0, max_size=1, open=False)
    assert not pool.runs_in_own_worker()
    pool._workers.append(threading.current_thread())
    assert pool.runs_in_own_worker()
    pool._workers.clear()


def test_a_connection_has_the_lock_that_we_and_a_fork_replace(
    database: dict[str, Any], make_wrapper: Callable[..., DatabaseWrapper]
) -> None:
    with connect(database) as connection:
        assert type(connection.lock) is type(threading.Lock())
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    assert type(wrapper.connection.lock) is type(Lock())
