"""The record of what a request did with pools."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.signals import request_finished, request_started
from django.db import DatabaseError, connections, transaction

from django_pooled_pg import request_record
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.pool import Pool
from django_pooled_pg.request_record import Record, recording
from tests.support.queries import backend_pid, fetch, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]


@pytest.fixture
def in_request() -> Iterator[None]:
    request_started.send(sender=None, environ={})
    yield
    request_finished.send(sender=None)


def hold_a_connection(wrapper: DatabaseWrapper) -> None:
    wrapper.inc_thread_sharing()
    wrapper.ensure_connection()


def test_one_borrow_per_request(make_wrapper: MakeWrapper, in_request: None) -> None:
    wrapper = make_wrapper(alias="books")
    with recording() as record:
        backend_pid(wrapper)
        fetch(wrapper, "SELECT pg_sleep(0.02)")
        (so_far,) = record.borrows()
        wrapper.close()
    (borrow,) = record.borrows()
    assert not so_far.returned
    assert so_far.held <= borrow.held
    assert (borrow.alias, borrow.returned, borrow.error) == ("books", True, "")
    assert (borrow.pinned, borrow.changed_by, borrow.cleaned) == (False, "", False)
    assert 0 < borrow.waited < 10
    assert 0.02 <= borrow.worked <= borrow.held < 10
    assert borrow.place == ""
    (totals,) = record.totals()
    assert (totals.alias, totals.borrows, totals.held) == ("books", 1, borrow.held)


def test_a_borrow_for_each_transaction(make_wrapper: MakeWrapper, in_request: None) -> None:
    wrapper = make_wrapper(pool={"return_at": "transaction"})
    with recording() as record:
        backend_pid(wrapper)
        backend_pid(wrapper)
    assert [b.returned for b in record.borrows()] == [True, True]
    assert record.borrows()[0].began < record.borrows()[1].began
    (totals,) = record.totals()
    assert totals.borrows == 2
    assert totals.worked == sum(b.worked for b in record.borrows()) > 0


def test_pinned_by(make_wrapper: MakeWrapper, in_request: None) -> None:
    wrapper = make_wrapper(pool={"return_at": "transaction"})
    with recording() as record:
        with wrapper.cursor() as cursor:
            cursor.execute("SET work_mem = '5MB'")
        (so_far,) = record.borrows()
        wrapper.close()
        backend_pid(wrapper)
    pinned, plain = record.borrows()
    assert (so_far.pinned, so_far.changed_by, so_far.cleaned, so_far.returned) == (
        True, "SET", True, False
    )  # fmt: skip
    assert (pinned.pinned, pinned.changed_by, pinned.cleaned) == (True, "SET", True)
    assert (plain.pinned, plain.changed_by, plain.cleaned) == (False, "", False)
    (totals,) = record.totals()
    assert (totals.borrows, totals.pinned, totals.cleaned) == (2, 1, 1)


def test_where_a_session_was_changed(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with recording(with_places=True) as record:
        fetch(wrapper, "SELECT set_config('work_mem', '5MB', false)")
        wrapper.close()
        fetch(wrapper, "SELECT 1")
        wrapper.close()
    changed, plain = [borrow.changed_at for borrow in record.borrows()]
    assert "tests/support/queries.py:" in changed
    assert plain == ""
    with recording() as record:
        fetch(wrapper, "SELECT set_config('work_mem', '5MB', false)")
    assert [borrow.changed_at for borrow in record.borrows()] == [""]


def test_a_reset_without_a_pin(make_wrapper: MakeWrapper, in_request: None) -> None:
    wrapper = make_wrapper()
    with recording() as record:
        fetch(wrapper, "SELECT set_config('work_mem', '5MB', false)")
        wrapper.close()
    (borrow,) = record.borrows()
    assert (borrow.pinned, borrow.changed_by, borrow.cleaned) == (False, "SET_CONFIG", True)


def test_several_aliases(make_wrapper: MakeWrapper, in_request: None) -> None:
    books, logs = make_wrapper(alias="books"), make_wrapper(alias="logs")
    with recording() as record:
        backend_pid(books)
        backend_pid(logs)
        books.close()
        backend_pid(books)
    assert [(t.alias, t.borrows) for t in record.totals()] == [("books", 2), ("logs", 1)]
    assert [b.alias for b in record.borrows()] == ["books", "logs", "books"]


def test_exhausted(make_wrapper: MakeWrapper) -> None:
    options = {"max_size": 1, "timeout": 0.2}
    hold_a_connection(make_wrapper(pool=options, alias="busy"))
    with recording(with_places=True) as record, pytest.raises(PoolExhausted):
        backend_pid(make_wrapper(pool=options, alias="busy"))
    (borrow,) = record.borrows()
    assert (borrow.error, borrow.held, borrow.returned) == ("exhausted", 0, True)
    assert borrow.waited >= 0.19
    assert borrow.place.endswith(" in fetch")
    (totals,) = record.totals()
    assert (totals.borrows, totals.exhausted, totals.failed) == (0, 1, 0)


def test_failed(make_wrapper: MakeWrapper) -> None:
    with recording() as record, pytest.raises(DatabaseError):
        backend_pid(make_wrapper(NAME="there_is_no_such_database"))
    assert [(t.borrows, t.exhausted, t.failed) for t in record.totals()] == [(0, 0, 1)]


def test_waiting_for_another_borrower(make_wrapper: MakeWrapper, in_request: None) -> None:
    options = {"max_size": 1, "timeout": 20}
    holder = make_wrapper(pool=options, alias="busy")
    hold_a_connection(holder)
    waiting = holder.pool
    assert waiting is not None
    before = waiting.statistics().wait.total

    def give_back() -> None:
        while not waiting.statistics().waiting:
            pass
        holder.close()

    thread = threading.Thread(target=give_back)
    thread.start()
    with recording() as record:
        wrapper = make_wrapper(pool=options, alias="busy")
        backend_pid(wrapper)
    thread.join()
    (borrow,) = record.borrows()
    assert borrow.waited >= waiting.statistics().wait.total - before > 0


def test_hooks_on_commit_borrow_again(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, in_request: None
) -> None:
    wrapper = make_wrapper(pool={"max_size": 1, "return_at": "transaction"}, alias="hooks")
    monkeypatch.setitem(connections.settings, "hooks", wrapper.settings_dict)
    connections["hooks"] = wrapper
    hooked: list[int] = []
    with recording() as record, transaction.atomic(using="hooks"):
        backend_pid(wrapper)
        transaction.on_commit(lambda: hooked.append(backend_pid(wrapper)), using="hooks")
    del connections["hooks"]
    assert hooked
    first, second = record.borrows()
    assert first.returned
    assert second.returned
    # Held counts from before the look at the connection that the wait ends with.
    assert first.began + max(first.waited, first.held) <= second.began


def test_without_a_record_nothing_is_noted(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with recording() as record:
        assert request_record.current() is record
    assert request_record.current() is None
    assert request_record._current.get() is None  # a thread that lives on doesn't keep it
    backend_pid(wrapper)
    assert record.borrows() == []


def test_one_record_inside_another_is_the_same(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    with recording() as outer:
        backend_pid(wrapper)
        with recording(with_places=True) as inner:
            backend_pid(wrapper)
        backend_pid(wrapper)
    assert inner is outer
    assert [bool(b.place) for b in outer.borrows()] == [False, True, True]


def test_an_error_ends_the_record() -> None:
    with pytest.raises(LookupError), recording():
        raise LookupError
    assert request_record.current() is None


def test_returned_after_the_record_was_closed(make_wrapper: MakeWrapper, in_request: None) -> None:
    wrapper = make_wrapper()
    with recording() as record:
        hold(wrapper)
    assert not record.borrows()[0].returned
    wrapper.close()
    assert record.borrows()[0].returned


def test_a_return_while_somebody_looks(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper()
    with recording() as record:
        hold(wrapper)

    def return_meanwhile(pool: Pool, lease: Lease) -> bool:
        wrapper.close()
        return False

    monkeypatch.setattr(Pool, "would_reset", return_meanwhile)
    assert record.borrows()[0].returned


def test_what_a_thread_left_behind_is_followed_to_its_end(make_wrapper: MakeWrapper) -> None:
    with recording() as record:
        asyncio.run(asyncio.to_thread(lambda: hold(make_wrapper())))
    wait_until(lambda: record.borrows()[0].returned)
    assert record.borrows()[0].held > 0


def test_a_lease_that_got_lost_is_not_kept_for_its_record(make_wrapper: MakeWrapper) -> None:
    lost, wrapper = make_wrapper(alias="same"), make_wrapper(alias="same")
    with recording():
        hold(lost)
        pool, lease = wrapper.pool, lost._lease
        assert pool is not None
        assert lease is not None
        pool.ledger.leases.remove(lease)
        hold(wrapper)
    followed = [each for each in pool.leases() if each.on_return is not None]
    assert followed == [wrapper._lease]
    pool.ledger.leases.add(lease)


# Threads and tasks


def test_threads_and_tasks_of_a_request(make_wrapper: MakeWrapper) -> None:
    def query(wrapper: DatabaseWrapper) -> None:
        wrapper.inc_thread_sharing()
        backend_pid(wrapper)
        wrapper.close()

    async def view() -> list[Any]:
        with recording() as record:
            await sync_to_async(query)(make_wrapper(alias="sensitive"))
            await sync_to_async(query, thread_sensitive=False)(make_wrapper(alias="not_sensitive"))
            await asyncio.to_thread(query, make_wrapper(alias="to_thread"))
            await asyncio.gather(
                asyncio.to_thread(query, make_wrapper(alias="gathered")),
                asyncio.create_task(asyncio.to_thread(query, make_wrapper(alias="task"))),
            )
            await sync_to_async(async_to_sync(sync_to_async(query)))(make_wrapper(alias="nested"))
        return record.borrows()

    borrows = asyncio.run(view())
    assert {b.alias for b in borrows} == {
        "sensitive", "not_sensitive", "to_thread", "gathered", "task", "nested"
    }  # fmt: skip
    assert len(borrows) == 6
    assert all(b.returned for b in borrows)


def test_requests_side_by_side_note_their_own(make_wrapper: MakeWrapper) -> None:
    def query(wrapper: DatabaseWrapper) -> None:
        wrapper.inc_thread_sharing()
        backend_pid(wrapper)

    async def view(*aliases: str) -> Record:
        with recording() as record:
            for alias in aliases:
                await asyncio.to_thread(query, make_wrapper(alias=alias))
        return record

    async def both() -> list[Record]:
        return await asyncio.gather(view("a", "b"), view("c", "d", "e"))

    records = asyncio.run(both())
    assert [[b.alias for b in r.borrows()] for r in records] == [["a", "b"], ["c", "d", "e"]]


def test_a_task_that_outlives_its_request_notes_nothing(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()

    async def scenario() -> Record:
        goes_on = asyncio.Event()

        async def task() -> None:
            await goes_on.wait()
            await asyncio.to_thread(backend_pid, wrapper)

        with recording() as record:
            running = asyncio.create_task(task())
            await asyncio.sleep(0)
        goes_on.set()
        await running
        return record

    assert asyncio.run(scenario()).borrows() == []


def test_a_thread_of_its_own_notes_nothing(make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    wrapper.inc_thread_sharing()
    with recording() as record:
        thread = threading.Thread(target=backend_pid, args=[wrapper])
        thread.start()
        thread.join()
    assert wrapper.pool is not None
    assert wrapper.pool.statistics().borrows == 1
    assert record.borrows() == []
