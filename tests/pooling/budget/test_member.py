"""One process's part in a budget; tests/faults/test_budget.py tries several processes.

Also tests its parts, `giving.py`, `holding.py` and `membership.py`, and what a backing does for it:
`backing/sharing.py`, `backing/slots.py`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from django_pooled_pg.pooling.budget.member import Member
from django_pooled_pg.pooling.budget.membership import Membership
from django_pooled_pg.pooling.budget.slots import SlotFile
from django_pooled_pg.pooling.errors import PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from tests.monitoring.members import short_folder
from tests.support.waiting import wait_until

MakePool = Callable[..., Pool]


@pytest.fixture(autouse=True)
def folder(settings: Any) -> Iterator[Path]:
    with short_folder() as path:
        settings.POOLED_PG_RUNTIME_DIR = str(path)
        yield path


@pytest.fixture
def make_pool(make_wrapper: Any) -> MakePool:
    def make(**options: Any) -> Pool:
        pool: Pool = make_wrapper({"budget": 2, "min_size": 0, "timeout": 10, **options}).pool
        return pool

    return make


def member_of(pool: Pool) -> Member:
    assert pool.supply.member is not None
    return pool.supply.member


def names(pool: Pool) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == f"{pool.name}-budget"]


def test_aliases_of_one_server_and_user_share_a_budget(make_pool: MakePool) -> None:
    first, second = make_pool(), make_pool(timeout=0.5)
    leases = [first.borrow(), second.borrow()]
    with pytest.raises(PoolExhausted, match=r"Of the 2 connections of the budget for .* has 1, "):
        second.borrow()
    first.give_back(leases[0])
    leases.append(second.borrow())
    for lease in leases[1:]:
        second.give_back(lease)
    assert first.statistics().slots + second.statistics().slots <= 2


def test_a_need_is_told_others_a_few_times_and_not_for_as_long_as_it_lasts(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_pool(), make_pool(timeout=2)
    leases = [first.borrow(), first.borrow()]
    woken: list[int] = []
    wake = Membership.wake

    def count(self: Membership, index: int) -> bool:
        woken.append(index)
        return wake(self, index)

    monkeypatch.setattr(Membership, "wake", count)
    with pytest.raises(PoolExhausted):
        second.borrow()
    of_first = member_of(first).record.index
    assert 1 <= woken.count(of_first) < 8
    for lease in leases:
        first.give_back(lease)


def test_a_folder_that_could_not_be_used_once_is_tried_again(
    make_pool: MakePool, folder: Path
) -> None:
    pool = make_pool(timeout=2)
    for _ in range(2):
        folder.chmod(0o755)
        with pytest.raises(psycopg.OperationalError, match="is open to other users"):
            pool.borrow()
        folder.chmod(0o700)
        pool.give_back(pool.borrow())
        pool.close()
        wait_until(lambda: not names(pool))


def test_budgets_with_other_names_are_others(make_pool: MakePool) -> None:
    first, second = make_pool(budget_name="one"), make_pool(budget_name="two")
    for pool in (first, second):
        for lease in [pool.borrow(), pool.borrow()]:
            pool.give_back(lease)
    assert (first.statistics().size, second.statistics().size) == (2, 2)


@pytest.mark.parametrize("kind", ["pool", "null"])
def test_its_thread_and_files_go_with_a_pool_that_is_closed(
    make_pool: MakePool, folder: Path, kind: str
) -> None:
    pool = make_pool(**{"class": kind})
    pool.give_back(pool.borrow())
    assert len(names(pool)) == 1
    pool.close()
    wait_until(lambda: not names(pool))
    # What is left is what `poolstats` asks.
    assert [p.name for p in folder.iterdir() if p.is_socket() and p.suffix != ".sock"] == []
    pool.give_back(pool.borrow())
    assert len(names(pool)) == 1
    pool.close()


def test_without_a_budget_there_is_nothing_of_it(make_pool: MakePool, folder: Path) -> None:
    pool = make_pool(budget=None)
    pool.give_back(pool.borrow())
    assert pool.supply.member is None
    assert names(pool) == []
    assert pool.statistics().budget == 0


def test_a_disk_that_is_full_keeps_nobody_from_connecting(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(self: SlotFile, data: bytes, offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SlotFile, "write", write)
    first, second = make_pool(), make_pool(timeout=0.5)
    leases = [first.borrow(), first.borrow()]
    with pytest.raises(PoolExhausted):
        second.borrow()
    assert "can't tell others what it needs of their budget" in caplog.text
    for lease in leases:
        first.give_back(lease)


def test_a_server_that_refuses_for_want_of_room_is_waited_for(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool()
    open_session, refused = pool._make.open, [1] * 8

    def full(kwargs: dict[str, Any]) -> Any:
        if refused:
            refused.pop()
            raise psycopg.OperationalError("FATAL:  sorry, too many clients already")
        return open_session(kwargs)

    monkeypatch.setattr(pool._connector, "_make", pool._make._replace(open=full))
    pool.give_back(pool.borrow())
    assert refused == []


def test_slots_are_those_of_what_is_open(make_pool: MakePool) -> None:
    pool = make_pool()
    leases = [pool.borrow(), pool.borrow()]
    holding = member_of(pool).holding
    assert (len(holding), holding.used) == (2, 2)
    leases[0].connection.close()  # by whomever
    member_of(pool).wake()
    wait_until(lambda: len(holding) == 1)
    for lease in leases:
        pool.give_back(lease)
