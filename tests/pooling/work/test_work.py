"""Work that may stop being wanted, tested without a server; also `stops.py`."""

from __future__ import annotations

import contextvars
import gc
import weakref
from math import inf
from threading import get_ident
from time import monotonic
from typing import Any

from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.stops import Stops
from django_pooled_pg.pooling.work.work import Work, current


class Running:
    """A statement, or a wait."""

    def __init__(self) -> None:
        self.thread_id = get_ident()
        self.stopped = False

    def is_running(self) -> bool:
        return not self.stopped

    def stop(self) -> None:
        self.stopped = True


def test_inner_work_has_what_limits_the_outer() -> None:
    gone = False
    outer = Work(100, lambda: gone)
    watcher.enter(outer)
    try:
        inner = Work(200)
        assert inner.until == outer.until
        running = Running()
        inner.running.add(running)
        inner.look(monotonic())
        assert not inner.stopped
        gone = True
        inner.look(monotonic() + 1)
        assert inner.is_abandoned
        assert outer.is_abandoned
        assert running.stopped
    finally:
        watcher.leave(outer)


def test_work_within_what_was_abandoned_is_not_wanted() -> None:
    outer = Work(inf, lambda: True)
    watcher.enter(outer)
    try:
        inner = Work(100)
        outer.abandon()
        assert not inner.is_wanted()
        assert not Work(100).is_wanted()
        assert inner.is_abandoned
    finally:
        watcher.leave(outer)


def test_it_goes_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        work = Work(100)
        watcher.enter(work)
        inner = Work(200)
        watcher.leave(work)
        gone = weakref.ref(work), weakref.ref(inner)
        del work, inner
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_a_client_is_asked_only_after_some_patience() -> None:
    asked: list[float] = []

    def has_gone() -> bool:
        asked.append(monotonic())
        return False

    work = Work(inf, has_gone, 100)
    work.look(monotonic())
    assert not asked
    work.look(monotonic() + 100)
    assert len(asked) == 1


def test_patience_with_a_client_does_not_delay_the_deadline() -> None:
    work = Work(1, lambda: False, 100)
    assert work.next_look == work.until


def test_what_outlives_its_work_is_free_again() -> None:
    work = Work(100)
    context = contextvars.copy_context()
    context.run(watcher.enter, work)
    assert context.run(current) is work
    task: contextvars.Context = context.run(contextvars.copy_context)
    context.run(watcher.leave, work)
    assert context.run(current) is None
    assert task.run(current) is None


def test_what_outlives_work_whose_client_has_gone_is_stopped() -> None:
    work = Work()
    context = contextvars.copy_context()
    context.run(watcher.enter, work)
    task: contextvars.Context = context.run(contextvars.copy_context)
    work.abandon()
    context.run(watcher.leave, work)
    assert context.run(current) is None
    assert task.run(current) is work


def test_each_piece_of_work_counts_once() -> None:
    stops = Stops("books")
    work: Any = Work()
    work.abandon()
    for _ in range(3):
        work.error(stops, "it was stopped")
    work.error(stops, "it was stopped", waiting=True)
    assert (stops.abandoned_working, stops.abandoned_waiting, stops.deadlines) == (1, 0, 0)
    late = Work(1e-9)
    assert not late.is_wanted()
    late.error(stops, "it was stopped")
    late.error(stops, "it was stopped", waiting=True)
    assert (stops.abandoned_working, stops.abandoned_waiting, stops.deadlines) == (1, 0, 1)
