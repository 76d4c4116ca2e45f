"""Cancel requests: none is sent to a session that somebody else may have."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import psycopg
import pytest

from django_pooled_pg import DeadlineExceeded, deadline
from django_pooled_pg.pooling.lease import Lease
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


def test_none_is_sent_when_no_statement_runs(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    use = lease_of(make_wrapper()).use
    use.stop(Work(1))
    assert use.cancel is None
    assert not requests_sent


def test_none_is_sent_when_the_borrow_has_ended(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    wrapper = make_wrapper()
    use = lease_of(wrapper).use
    wrapper.close()
    work = Work(1)
    work.running.add(use)  # an interrupt left it there
    use.stop(work)
    assert use.cancel is None
    assert not requests_sent


def test_one_is_under_way_at_a_time(make_wrapper: MakeWrapper, requests_sent: list[Any]) -> None:
    use = lease_of(make_wrapper()).use
    work = Work(1)
    work.running.add(use)
    for _ in range(20):
        use.stop(work)
    use.end_cancel()
    assert len(requests_sent) == 1


def test_a_statement_that_goes_on_is_canceled_again(
    make_wrapper: MakeWrapper, requests_sent: list[Any]
) -> None:
    # Nothing runs in the server, so nothing is canceled.
    use = lease_of(make_wrapper()).use
    work = Work(1)
    work.running.add(use)

    def stopped_again() -> bool:
        use.stop(work)
        return len(requests_sent) > 1

    wait_until(stopped_again)
    use.end_cancel()


def test_a_session_is_closed_when_its_cancel_request_is_not_answered(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cancel_safe(connection: Any, **kwargs: Any) -> None:
        raise psycopg.errors.CancellationTimeout("cancellation timeout expired")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
    wrapper = make_wrapper()
    lease = lease_of(wrapper)
    work = Work(1)
    work.running.add(lease.use)
    lease.use.stop(work)
    work.end_statement(lease.use, 0.0)
    wrapper.close()
    wait_until(lambda: lease.connection.closed)
    assert "a statement can't be canceled: cancellation timeout expired" in caplog.text
    assert fetch(wrapper, "SELECT 1") == 1


def test_an_interrupt_while_the_answer_is_awaited_closes_the_session_or_waits(
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
    lease = lease_of(wrapper)
    work = Work(1)
    work.running.add(lease.use)
    lease.use.stop(work)
    work.running.discard(lease.use)  # and here comes the interrupt
    wrapper.close()
    other = make_wrapper(pool=pool, alias=wrapper.alias)
    assert other.pool is not None
    with pytest.raises(Exception, match="no connection was free"):
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
