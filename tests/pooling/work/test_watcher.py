"""The thread that watches work: it sleeps unless there is something to look at."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from math import inf

import pytest

from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.work import Work
from tests.soak.child import run_in_child
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def no_work() -> Iterator[None]:
    """What a test leaves would be watched for the next ones, too."""
    watcher._watched.clear()
    yield
    watcher._watched.clear()


def watch(work: Work) -> None:
    """Let it be watched, but not be this test's."""
    contextvars.copy_context().run(watcher.enter, work)


def watchers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "django_pooled_pg-watcher"]


@pytest.fixture
def no_watcher() -> None:
    """None runs, as at the start of a process."""
    wake = watcher._wake
    watcher.start_anew()
    wake.put(None)
    wait_until(lambda: not watchers())


def test_it_stops_work_at_its_deadline() -> None:
    work = Work(0.05)
    watch(work)
    wait_until(lambda: work.stopped)
    assert len(watchers()) == 1


def test_a_nearer_deadline_wakes_it() -> None:
    far, near = Work(1000), Work(0.05)
    watch(far)
    watch(near)
    wait_until(lambda: near.stopped, within=2)
    assert not far.stopped


def test_it_looks_at_a_client_again_and_again() -> None:
    looks: list[bool] = []

    def has_gone() -> bool:
        looks.append(True)
        return len(looks) >= 3

    work = Work(inf, has_gone)
    watch(work)
    wait_until(lambda: work.is_abandoned)


def test_a_client_that_cannot_be_looked_at_disturbs_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def has_gone() -> bool:
        raise OSError("no such socket")

    broken, sound = Work(inf, has_gone), Work(0.2)
    watch(broken)
    watch(sound)
    wait_until(lambda: sound.stopped)
    assert not broken.stopped
    assert "no such socket" in caplog.text


def test_it_sleeps_when_there_is_no_work() -> None:
    watcher._watched.clear()  # other tests leave theirs
    work = Work(1000)
    watch(work)
    watcher.leave(work)
    wait_until(lambda: watcher._next_look == inf and not watcher._watched)


def test_it_starts_though_an_interrupt_has_broken_off_its_start(
    no_watcher: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(BaseException):
        """As a task's time limit raises it."""

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        raise Interrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupt):
        watch(Work(0.05))
    work = Work(0.05)
    watch(work)
    wait_until(lambda: work.stopped)
    assert len(watchers()) == 1


def test_without_a_thread_nothing_is_canceled_but_the_code_goes_on(
    no_watcher: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        watch(Work(0.05))
    assert "Statements can't be canceled for now: can't start new thread" in caplog.text
    work = Work(0.05)
    watch(work)
    wait_until(lambda: work.stopped)


def test_a_child_has_a_watcher_of_its_own() -> None:
    watch(Work(1000))

    def child() -> None:
        assert not watchers()
        assert not watcher._watched
        work = Work(0.05)
        watch(work)
        wait_until(lambda: work.stopped)

    assert run_in_child(child) == 0
