"""`pool.py`, and its parts `waiting.py`, `ledger.py`, `figures.py`, `counters.py`, `statistics.py`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.connector import SessionMaker
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from tests.support.waiting import wait_until

MakePool = Callable[..., Pool]


@pytest.fixture
def conninfo(database: dict[str, Any]) -> str:
    return psycopg.conninfo.make_conninfo(
        host=database["HOST"],
        port=database["PORT"] or None,
        user=database["USER"] or None,
        password=database["PASSWORD"] or None,
        dbname=database["NAME"],
    )


@pytest.fixture
def make_pool(conninfo: str) -> Iterator[MakePool]:
    """Make pools that know nothing of Django's wrappers."""
    made: list[Pool] = []

    def open_session(kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        return psycopg.connect(conninfo, autocommit=True, **kwargs)

    def make(
        open_session: Callable[..., Any] = open_session,
        on_open: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> Pool:
        config = PoolConfig.from_settings("default", {"OPTIONS": {"pool": options}})
        assert config is not None
        maker = SessionMaker(open_session, lambda connection: None)
        made.append(Pool("default", config, maker, on_open))
        return made[-1]

    yield make
    for pool in made:
        for lease in list(pool.ledger.leases):
            pool.give_back(lease)
        pool.close()


def impatient(pool: Pool, timeout: float = 0.05) -> None:
    """From now on; the first connect may take its time."""
    pool.supply.config = dataclasses.replace(pool.config, timeout=timeout)


def test_a_returned_connection_is_lent_again(make_pool: MakePool) -> None:
    pool = make_pool()
    first = pool.borrow()
    pool.give_back(first)
    wait_until(lambda: pool.statistics().idle == 1)
    second = pool.borrow()
    assert second.connection is first.connection
    assert pool.statistics().connects == 1


def test_one_borrower_opens_one_connection(make_pool: MakePool) -> None:
    pool = make_pool(min_size=1)
    pool.give_back(pool.borrow())
    pool.give_back(pool.borrow())
    s = pool.statistics()
    assert (s.size, s.connects) == (1, 1)


def test_the_pool_grows_to_min_size_after_the_first_borrow(make_pool: MakePool) -> None:
    pool = make_pool(min_size=3)
    pool.borrow()
    wait_until(lambda: pool.statistics().idle == 2)
    assert pool.statistics().size == 3


def test_open_fills_the_pool_before_anybody_asks(make_pool: MakePool) -> None:
    pool = make_pool(min_size=2)
    pool.open(wait=True)
    s = pool.statistics()
    assert (s.size, s.in_use) == (2, 0)


def test_giving_back_twice_counts_once(make_pool: MakePool) -> None:
    pool = make_pool()
    lease = pool.borrow()
    pool.give_back(lease)
    pool.give_back(lease)
    assert pool.statistics().returns == 1
    wait_until(lambda: pool.statistics().idle == 1)


def test_exhausted_says_who_holds_what(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    pool.borrow()
    impatient(pool)
    with pytest.raises(PoolExhausted) as caught:
        pool.borrow()
    message = str(caught.value)
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert caught.value.alias == "default"
    assert "Pool 'default' in process" in message
    assert "within 0.05 s (timeout)" in message
    assert "1 of 1 (max_size) connections are in use" in message
    assert threading.current_thread().name in message
    assert "test_pool.py" in message
    assert pool.statistics().exhausted == 1


def test_max_waiting_turns_borrowers_away_at_once(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, timeout=30, max_waiting=1)
    lease = pool.borrow()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.borrow)
        wait_until(lambda: pool.statistics().waiting == 1 and pool.supply.opened()._waiting)
        with pytest.raises(
            PoolExhausted, match=r"1 borrowers .max_waiting. wait already"
        ) as caught:
            pool.borrow()
        assert isinstance(caught.value.__cause__, TooManyRequests)
        pool.give_back(lease)
        waiting.result(5)


def test_those_who_gave_up_do_not_count_as_waiting(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, max_waiting=1)
    pool.borrow()
    impatient(pool)
    for _ in range(3):  # psycopg_pool alone counts the first one for ever
        with pytest.raises(PoolExhausted) as caught:
            pool.borrow()
        assert isinstance(caught.value.__cause__, PoolTimeout)
    assert pool.statistics().waiting == 0


def test_a_failed_connect_reaches_all_who_wait(make_pool: MakePool) -> None:
    arrived = threading.Barrier(3)

    def refuse(kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        wait_until(lambda: pool.statistics().waiting == 3 or pool.statistics().connect_errors)
        raise psycopg.OperationalError("the server is out for lunch")

    def borrow() -> str:
        arrived.wait(5)
        with pytest.raises(psycopg.OperationalError, match="out for lunch") as caught:
            pool.borrow()
        assert caught.value.__cause__ is not None
        return str(id(caught.value))

    pool = make_pool(refuse, timeout=30)
    with ThreadPoolExecutor(3) as executor:
        errors = list(executor.map(lambda _: borrow(), range(3)))
    assert len(set(errors)) == 3, "each borrower raises an error of its own"
    assert pool.statistics().connect_errors >= 1


def test_with_another_connection_at_work_borrowers_wait_and_learn_why(
    make_pool: MakePool, conninfo: str
) -> None:
    sessions = iter([psycopg.connect(conninfo, autocommit=True)])

    def only_one(kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        if connection := next(sessions, None):
            return connection
        raise psycopg.OperationalError("too many clients")

    pool = make_pool(only_one, max_size=2)
    pool.borrow()
    impatient(pool, 0.3)
    with pytest.raises(PoolExhausted, match="last attempt to connect failed: too many clients"):
        pool.borrow()


def test_a_failing_configure_is_told_and_closes_the_connection(
    make_pool: MakePool, conninfo: str
) -> None:
    made = []

    def open_session(kwargs: dict[str, Any]) -> psycopg.Connection[Any]:
        made.append(psycopg.connect(conninfo, autocommit=True))
        return made[-1]

    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT 1/0")

    pool = make_pool(open_session, configure=configure, timeout=30)
    with pytest.raises(psycopg.errors.DivisionByZero):
        pool.borrow()
    pool.close()
    assert made
    assert all(connection.closed for connection in made)


def test_configure_must_end_its_transaction(make_pool: MakePool, conninfo: str) -> None:
    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = False
        connection.execute("SELECT 1")

    with pytest.raises(psycopg.ProgrammingError, match=r"'configure' left .* INTRANS"):
        make_pool(configure=configure, timeout=30).borrow()


def test_close_closes_what_is_lent_when_it_returns(make_pool: MakePool) -> None:
    pool = make_pool()
    lease = pool.borrow()
    pool.close()
    assert lease.connection.execute("SELECT 1").fetchone() == (1,)
    pool.give_back(lease)
    assert lease.connection.closed
    pool.give_back(pool.borrow())
    assert pool.statistics().connects == 2


def test_close_while_others_wait_lets_them_go_on(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, timeout=30)
    lease = pool.borrow()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.borrow)
        wait_until(lambda: pool.supply.opened()._waiting)
        pool.close()
        # The pool that opens next has room of its own for it.
        assert waiting.result(5).connection is not lease.connection


def test_close_from_a_callback_does_not_wait_for_itself(make_pool: MakePool) -> None:
    done = threading.Event()

    def configure(connection: psycopg.Connection[Any]) -> None:
        if not done.is_set():
            done.set()
            pool.close()

    pool = make_pool(configure=configure, timeout=20)
    assert not pool.borrow().connection.closed


def test_a_closed_pool_closed_again_stays_quiet(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.close()
    pool.borrow()
    pool.close()
    pool.close()


def test_on_open_is_called_each_time_the_pool_starts_to_work(make_pool: MakePool) -> None:
    opened: list[int] = []
    pool = make_pool(on_open=lambda: opened.append(1))
    assert not opened
    pool.give_back(pool.borrow())
    pool.give_back(pool.borrow())
    assert len(opened) == 1
    pool.close()
    pool.borrow()
    assert len(opened) == 2


def test_null_pool_keeps_nothing_and_keeps_the_limit(make_pool: MakePool) -> None:
    pool = make_pool(**{"class": "null"}, max_size=1)
    lease = pool.borrow()
    impatient(pool)
    with pytest.raises(PoolExhausted):
        pool.borrow()
    impatient(pool, 30)
    pool.give_back(lease)
    wait_until(lambda: lease.connection.closed)
    pool.give_back(pool.borrow())
    assert pool.statistics().connects == 2
    assert pool.statistics().idle == 0


def test_null_pool_replaces_a_changed_session_for_those_who_wait(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(**{"class": "null"}, max_size=2, timeout=30)
    leases = [pool.borrow(), pool.borrow()]
    with ThreadPoolExecutor(2) as executor:
        waiting = [executor.submit(pool.borrow) for _ in leases]
        wait_until(lambda: pool.statistics().waiting == 2)
        for lease in leases:
            lease.connection.execute("SET work_mem = '5MB'")
            pool.give_back(lease)
        seconds = [borrowing.result(30) for borrowing in waiting]
    for lease in seconds:
        assert lease.connection.execute("SHOW work_mem").fetchone() != ("5MB",)
        pool.give_back(lease)
    wait_until(lambda: pool.statistics().size == 0)
    # It closed them itself; psycopg_pool warns of those that it finds closed.
    assert caplog.messages == []


def test_figures_of_waiting_and_holding(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, timeout=30)
    lease = pool.borrow()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.borrow)
        wait_until(lambda: pool.statistics().waiting == 1)
        s = pool.statistics()
        assert (s.in_use, s.borrows, s.returns) == (1, 1, 0)
        pool.give_back(lease)
        second = waiting.result(5)
    pool.give_back(second)
    s = pool.statistics()
    assert (s.in_use, s.waiting, s.borrows, s.returns) == (0, 0, 2, 2)
    assert 0 < s.wait.max <= s.wait.total
    assert 0 < s.held.max <= s.held.total


def test_repr_shows_the_state(make_pool: MakePool) -> None:
    pool = make_pool(max_size=2, name="books")
    pool.borrow()
    assert repr(pool) == "<Pool 'books' alias='default' size=1/2 in_use=1 idle=0 waiting=0>"


def test_counters_never_go_backwards_over_a_dead_connection(
    make_pool: MakePool, conninfo: str
) -> None:
    pool = make_pool(max_size=1, timeout=30)
    lease = pool.borrow()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.borrow)
        wait_until(lambda: pool.statistics().waiting == 1)
        before = pool.statistics().borrows
        pid = lease.connection.info.backend_pid
        with psycopg.connect(conninfo, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
            wait_until(
                lambda: (
                    not other.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]
                    ).fetchall()
                )
            )
        pool.give_back(lease)
        pool.give_back(waiting.result(5))
    s = pool.statistics()
    assert before <= s.borrows == s.returns == sum(s.wait.buckets)
    assert min(s.wait.buckets) >= 0
    assert s.dead == 1
