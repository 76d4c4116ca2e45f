"""No slot is lost, whoever dies, forgets or is interrupted; who holds what can be told.

Tests `pooling/housekeeping.py`, as does `tests/pooling/process/test_borrowers.py`; under gevent
also `pooling/process/gevent_order.py`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db.backends.signals import connection_created

from django_pooled_pg.base import DatabaseWrapper
from tests.support.processes import PRELUDE, environment, run_script
from tests.support.queries import backend_pid, hold
from tests.support.waiting import wait_until

MakeWrapper = Callable[..., DatabaseWrapper]

POOL = {"max_size": 2, "timeout": 10}


def statistics(wrapper: DatabaseWrapper) -> Any:
    assert wrapper.pool is not None
    return wrapper.pool.statistics()


def test_fifty_threads_that_end_without_closing(make_wrapper: MakeWrapper) -> None:
    """All at once: those that wait get what is reclaimed from those that ended."""
    watcher = make_wrapper(pool=POOL, alias="fifty")
    threads = [
        threading.Thread(target=lambda: hold(make_wrapper(pool=POOL, alias="fifty")))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: statistics(watcher).reclaimed == 50)
    wait_until(lambda: statistics(watcher).idle == statistics(watcher).size)
    s = statistics(watcher)
    assert (s.exhausted, s.in_use, s.borrows) == (0, 0, 50)
    assert s.size <= 2


def test_an_executor_that_was_shut_down(make_wrapper: MakeWrapper) -> None:
    watcher = make_wrapper(pool=POOL, alias="executor")
    for _ in range(5):
        with ThreadPoolExecutor(2) as executor:
            list(executor.map(lambda _: hold(make_wrapper(pool=POOL, alias="executor")), range(2)))
    wait_until(lambda: statistics(watcher).in_use == 0)
    assert statistics(watcher).exhausted == 0


def test_a_receiver_that_fails_loses_nothing(make_wrapper: MakeWrapper) -> None:
    def receiver(**kwargs: Any) -> None:
        raise RuntimeError("can't register the adapter")

    wrapper = make_wrapper(pool=POOL)
    connection_created.connect(receiver)
    try:
        for _ in range(5):
            with pytest.raises(RuntimeError, match="adapter"):
                wrapper.ensure_connection()
    finally:
        connection_created.disconnect(receiver)
    assert statistics(wrapper).in_use == 0
    assert backend_pid(wrapper)


def test_a_long_lease_is_logged_once_with_the_place(
    make_wrapper: MakeWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = make_wrapper(pool={**POOL, "leak_threshold": 0.1})
    wrapper.ensure_connection()

    def reports() -> list[logging.LogRecord]:
        return [r for r in caplog.records if "leak_threshold" in r.getMessage()]

    (report,) = wait_until(reports)
    message = report.getMessage()
    assert report.levelname == "WARNING"
    assert threading.current_thread().name in message
    assert "leak_threshold is 0.1 s" in message
    assert "support/waiting.py" in message
    wrapper.close()
    # The next lease is another matter.
    wrapper.ensure_connection()
    wait_until(lambda: len(reports()) == 2)


INTERRUPTS = """
import logging, random, signal, sys, time
logging.disable()
sys.unraisablehook = lambda unraisable: None  # interrupts that hit destructors
class Interrupt(BaseException):
    pass
armed = False
def interrupt(*args):
    if armed:
        raise Interrupt
signal.signal(signal.SIGALRM, interrupt)
rng = random.Random(1)
interrupted = 0
backend_pid()
connection.close()
def borrow_until_the_interrupt():
    while True:
        connection.ensure_connection()
        connection.close()
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            break  # it hit a destructor, where Python swallows it
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00001, 0.0008))
        # A call: `try` doesn't see what happens as a loop in it starts over (Python 3.12 to 3.15).
        borrow_until_the_interrupt()
    except Interrupt:
        interrupted += 1
    armed = False
    connection.close()
assert interrupted > 30, interrupted
pool = connection.pool
deadline = time.monotonic() + 20
while True:
    s = pool.statistics()
    if s.in_use == 0 and s.waiting == 0 and s.idle == s.size and not pool.strays.find():
        break
    assert time.monotonic() < deadline, (s, pool.strays.find())
    time.sleep(0.05)
leases = [pool.borrow() for _ in range(pool.config.max_size)]
assert len({lease.connection for lease in leases}) == 3
"""


def test_interrupts_at_any_moment_lose_no_slot(database: dict[str, Any]) -> None:
    """As by Ctrl-C, or by the time limit of a task queue's worker."""
    run_script(INTERRUPTS, {"default": {**database, "OPTIONS": {"pool": {"max_size": 3}}}})


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, logging, time
"""

GREENLETS_WORK = """
logging.disable()

def sleep_in_the_database(close):
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.2)")
    if close:
        connection.close()

def run(close, count):
    started = time.monotonic()
    greenlets = [gevent.spawn(sleep_in_the_database, close) for _ in range(count)]
    gevent.joinall(greenlets, raise_error=True)
    return time.monotonic() - started

# 40 of 0.2 s each on 10 connections: 0.8 s if they wait together, 8 s if one by one.
assert run(True, 40) < 4
assert connection.pool.statistics().connects <= 10

# And greenlets that end without closing.
run(False, 30)
deadline = time.monotonic() + 10
while connection.pool.statistics().reclaimed < 30:
    assert time.monotonic() < deadline, connection.pool.statistics()
    gevent.sleep(0.01)
assert connection.pool.statistics().exhausted == 0
"""


def test_greenlets(database: dict[str, Any]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", GREENLETS + PRELUDE + GREENLETS_WORK],
        env=environment(
            SETTINGS=json.dumps({"DATABASES": {"default": database}, "USE_TZ": True}),
            PYTHONDEVMODE="",
            PYTHONWARNINGS="",
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
