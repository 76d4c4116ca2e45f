"""Cancel requests: none goes to a session that somebody else may have; also `running.py`."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import psycopg
import pytest
from django.db import OperationalError

from django_pooled_pg import DeadlineExceeded, PoolExhausted, deadline
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.session.running import Statement, statement_for
from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.work import Work, current
from tests.conftest import MakeWrapper
from tests.support.proxy import Proxy
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until


@pytest.fixture
def requests_sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections whose statements were to be canceled."""
    sent: list[Any] = []
    cancel = psycopg.Connection.cancel_safe

    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        sent.append(connection)
        cancel(connection, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    return sent


def lease_of(wrapper: Any) -> Lease:
    hold(wrapper)
    lease: Lease = wrapper._lease
    return lease


def begun(lease: Lease) -> Statement:
    """A statement that runs, as far as this process knows."""
    statement = Statement(Work(100), lease.use)
    statement.begin()
    return statement


def end(statement: Statement) -> None:
    statement.use.statement = None
    statement.end()


def test_none_is_sent_when_the_statement_has_ended(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    lease = lease_of(make_wrapper())
    statement = begun(lease)
    end(statement)
    statement.stop()
    assert lease.use.cancel is None
    assert not requests_sent


def test_none_is_sent_when_the_borrow_has_ended(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    wrapper = make_wrapper()
    lease = lease_of(wrapper)
    statement = begun(lease)  # and an interrupt keeps it from ending
    wrapper.close()
    statement.stop()
    assert lease.use.cancel is None
    assert not requests_sent


def test_none_is_sent_when_another_statement_runs(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    lease = lease_of(make_wrapper())
    interrupted, other = begun(lease), begun(lease)
    interrupted.stop()
    assert not requests_sent
    end(other)


def test_an_interrupted_statement_does_not_outlive_its_block(make_wrapper: MakeWrapper) -> None:
    lease = lease_of(make_wrapper())
    work = Work(100)
    watcher.enter(work)
    Statement(work, lease.use).begin()
    assert work.running
    watcher.leave(work)
    assert not work.running


def test_one_is_under_way_at_a_time(make_wrapper: MakeWrapper, requests_sent: list[Any]) -> None:
    statement = begun(lease_of(make_wrapper()))
    for _ in range(20):
        statement.stop()
    end(statement)
    assert len(requests_sent) == 1


def test_a_statement_that_goes_on_is_canceled_again(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    # Nothing runs in the server, so nothing is canceled.
    statement = begun(lease_of(make_wrapper()))

    def stopped_again() -> bool:
        statement.stop()
        return len(requests_sent) > 1

    wait_until(stopped_again)
    end(statement)


def test_a_session_is_closed_when_its_cancel_request_is_not_answered(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        raise psycopg.errors.CancellationTimeout("cancellation timeout expired")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    wrapper = make_wrapper()
    lease = lease_of(wrapper)
    statement = begun(lease)
    statement.stop()
    end(statement)
    wrapper.close()
    wait_until(lambda: lease.connection.closed)
    assert "a statement can't be canceled: cancellation timeout expired" in caplog.text
    assert fetch(wrapper, "SELECT 1") == 1


def test_what_cannot_be_canceled_loses_its_connection(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    wrapper = make_wrapper()
    began = monotonic()
    with pytest.raises(DeadlineExceeded), deadline(0.2):
        fetch(wrapper, "SELECT pg_sleep(6)")
    assert monotonic() - began < 5


def test_what_is_sent_too_late_hits_nothing_else(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The borrower's next statement, which has no deadline: its connection is closed."""

    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        raise psycopg.errors.CancellationTimeout("cancellation timeout expired")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    wrapper = make_wrapper()
    hold(wrapper)
    with deadline(0.1):
        assert fetch(wrapper, "SELECT pg_sleep(0.5)::text") == ""
    with pytest.raises(OperationalError, match="the connection is closed"):
        fetch(wrapper, "SELECT 1")
    wrapper.close()
    assert fetch(wrapper, "SELECT 1") == 1


def test_a_connection_is_closed_once(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture, requests_sent: list[Any]
) -> None:
    statement = begun(lease_of(make_wrapper()))
    statement.stop()
    statement._stopped_at -= 100
    for _ in range(3):
        statement.stop()
    assert caplog.text.count("its connection is closed") == 1
    end(statement)


def test_cleaning_up_is_not_canceled_but_does_not_wait_without_end(
    make_wrapper: MakeWrapper, requests_sent: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    lease = lease_of(make_wrapper())
    work = Work(100)
    watcher.enter(work)
    try:
        statement = statement_for(lease.use, 'ROLLBACK TO SAVEPOINT "s1"')
    finally:
        watcher.leave(work)
    assert statement is not None
    work.stopped = "deadline"
    statement.begin()
    statement.stop()
    assert lease.use.cancel is None
    statement._stopped_at -= 100
    statement.stop()
    assert "its connection is closed" in caplog.text
    assert not requests_sent
    end(statement)


def test_a_statement_of_another_thread_on_the_same_connection_is_not_hit(
    make_wrapper: MakeWrapper,
) -> None:
    wrapper = make_wrapper()
    lease = lease_of(wrapper)
    raw = lease.use.raw
    done: list[Any] = []

    def ask() -> None:
        done.append(raw.execute("SELECT pg_sleep(1)::text").fetchone())

    other = threading.Thread(target=ask)
    other.start()
    wait_until(lambda: raw.lock.locked())
    with pytest.raises(DeadlineExceeded, match="in use by another statement"), deadline(0.2):
        raw.execute("SELECT 1")
    other.join()
    assert done == [("",)]


def test_a_session_is_not_lent_while_an_interrupted_borrower_has_not_seen_the_answer(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    cancel = psycopg.Connection.cancel_safe

    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        let_go.wait(10)
        cancel(connection, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    pool = {"max_size": 1, "timeout": 0.2}
    wrapper = make_wrapper(pool=pool)
    begun(lease_of(wrapper)).stop()  # and here comes the interrupt
    wrapper.close()
    other = make_wrapper(pool=pool, alias=wrapper.alias)
    assert other.pool is not None
    with pytest.raises(PoolExhausted):
        other.ensure_connection()
    let_go.set()
    wait_until(lambda: other.pool is not None and other.pool.statistics().idle == 1)
    assert fetch(other, "SELECT pg_sleep(0.05)::text") == ""


def test_a_server_that_does_not_answer_holds_nobody_beyond_a_deadline(
    make_wrapper: MakeWrapper, database: dict[str, Any]
) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        wrapper = make_wrapper(pool={"max_size": 1}, HOST="127.0.0.1", PORT=str(proxy.port))
        pid = backend_pid(wrapper)

        @deadline(0.5)
        def ask() -> None:
            works.append(current())
            fetch(wrapper, "SELECT pg_sleep(8)::text")

        def freeze() -> None:
            wait_until(lambda: works and works[0].running)
            proxy.freeze()

        works: list[Any] = []
        began = monotonic()
        freezing = threading.Thread(target=freeze)
        freezing.start()
        with pytest.raises(DeadlineExceeded):
            ask()
        freezing.join()
        assert monotonic() - began < 10
        wrapper.close()
        proxy.resume()
        assert wait_until(lambda: _pid(wrapper)) != pid


def _pid(wrapper: Any) -> int:
    try:
        return backend_pid(wrapper)
    except Exception:
        wrapper.close()
        return 0


def test_after_one_of_the_borrowers_own_that_nobody_saw_answered_the_session_is_closed(
    make_wrapper: MakeWrapper, database: dict[str, Any]
) -> None:
    with Proxy(int(database["PORT"])) as proxy:
        options = {"sslmode": "disable", "gssencmode": "disable"}
        wrapper = make_wrapper(
            {"max_size": 1}, HOST="127.0.0.1", PORT=str(proxy.port), OPTIONS=options
        )
        hold(wrapper)
        pid, connection = backend_pid(wrapper), wrapper.connection
        assert connection is not None
        proxy.hold()
        with pytest.raises(psycopg.errors.CancellationTimeout):
            connection.cancel_safe(timeout=0.2)
        wrapper.close()
        proxy.resume()
        # One that was answered does no harm.
        hold(wrapper)
        first, pid, connection = pid, backend_pid(wrapper), wrapper.connection
        assert connection is not None
        assert pid != first
        connection.cancel_safe()
        wrapper.close()
        assert backend_pid(wrapper) == pid
