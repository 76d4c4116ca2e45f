from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_pooled_pg.pooling.backing import workers
from django_pooled_pg.pooling.backing.pool import Backing
from tests.support.waiting import wait_until

Do = Callable[[Callable[[], object]], None]


@pytest.fixture
def backing() -> Iterator[Backing]:
    backing = Backing("", min_size=0, max_size=1, num_workers=3, open=False)
    backing.open()
    yield backing
    backing.close()


@pytest.fixture
def do(backing: Backing) -> Do:
    """Let a worker call that."""
    connection: Any = object()
    return lambda function: backing.in_worker(lambda: void(function()), connection)  # type: ignore[return-value]


def void(result: object) -> None:
    pass


def test_a_pool_without_much_to_do_has_two(backing: Backing, do: Do) -> None:
    for _ in range(20):
        done = threading.Event()
        do(done.set)
        assert done.wait(5)
        # Whoever has done it waits again before the next task comes.
        wait_until(lambda: len(backing._tasks.waiting) == len(backing._workers))  # type: ignore[attr-defined]
    assert len(backing._workers) == 2


def test_nothing_waits_behind_a_task_that_hangs(backing: Backing, do: Do) -> None:
    hang, done = threading.Event(), threading.Event()
    do(lambda: hang.wait(10))
    do(lambda: hang.wait(10))
    do(done.set)
    try:
        assert done.wait(5)
        assert len(backing._workers) == 3
    finally:
        hang.set()


def test_there_are_never_more_than_num_workers(backing: Backing, do: Do) -> None:
    hang, done = threading.Event(), threading.Event()
    for _ in range(5):
        do(lambda: hang.wait(10))
    do(done.set)
    wait_until(lambda: backing._tasks.qsize() == 3)
    assert len(backing._workers) == 3
    hang.set()
    assert done.wait(5)


def test_all_of_them_end_with_the_pool(backing: Backing, do: Do) -> None:
    hang = threading.Event()
    do(lambda: hang.wait(10))
    do(lambda: hang.wait(10))
    wait_until(lambda: len(backing._workers) == 3)
    started = list(backing._workers)
    hang.set()
    backing.close()
    assert not any(each.is_alive() for each in started)
    workers.hire(backing)
    assert backing._workers == []


def test_those_there_are_go_on_when_no_more_can_be_started(
    backing: Backing, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(lambda: None)
    wait_until(lambda: len(backing._workers) == 2)

    class NoMore(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    hang, done = threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(workers, "Thread", NoMore)
        do(lambda: hang.wait(10))
        do(done.set)
        assert done.wait(5)
        assert len(backing._workers) == 2
    # And it is tried again.
    do(lambda: hang.wait(10))
    wait_until(lambda: len(backing._workers) == 3)
    hang.set()
