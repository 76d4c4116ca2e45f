"""An interrupt at any moment of a borrow or a return: nobody gets another's session, no slot is lost."""

from __future__ import annotations

from typing import Any

import pytest

from django_pooled_pg.pooling import strays, supply
from django_pooled_pg.pooling.backing.base import BaseBacking
from tests.support.processes import run_script
from tests.support.queries import fetch
from tests.support.waiting import wait_until

SCRIPT = """
import dis, functools, logging, pathlib, queue, sys, threading, time
import psycopg_pool
import django_pooled_pg
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg import deadline
from django_pooled_pg.pooling import housekeeping, strays
from django_pooled_pg.pooling.work.work import current
logging.disable()
sys.unraisablehook = lambda unraisable: None  # interrupts that hit destructors
# Seconds are for people.
strays.LOOK_EVERY = housekeeping.LOOK_EVERY = 0.02
strays._LEAST_AGE = 0.1

PATHS = (
    *(str(pathlib.Path(m.__file__).parent) for m in (django_pooled_pg, psycopg_pool)),
    # What they call of these, which is in Python.
    *(m.__file__ for m in (queue, threading)),
)

class Interrupt(BaseException):
    pass

# After these Python looks for signals, and lets their handlers raise. (What is in between, such as
# the end of a `with` and the call of its `__exit__`, no interrupt can part.)
LOOKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"}

@functools.cache
def moments(code):
    '''Return the offsets of opcodes before which an interrupt may come.'''
    table = dis._parse_exception_table(code)
    def handler(offset):
        return next((e.target for e in reversed(table) if e.start <= offset < e.end), None)
    found, before = set(), None
    for instruction in dis.get_instructions(code):
        if before is not None and before.opname in LOOKS:
            if handler(before.offset) == handler(instruction.offset):
                found.add(instruction.offset)
        before = instruction
    return found

class Interrupter:
    '''Raises at the moment of that number, counted over all frames of the packages.'''

    def __init__(self, at):
        self.at, self.count = at, 0

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PATHS):
            return None
        frame.f_trace_opcodes = True
        return self.within

    def within(self, frame, event, arg):
        if event == "opcode" and frame.f_lasti in moments(frame.f_code):
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                raise Interrupt
        return self.within

def run(at):
    '''Return how many opcodes there were.'''
    interrupter = Interrupter(at)
    sys.settrace(interrupter)
    try:
        work()
    except Interrupt:
        pass
    finally:
        sys.settrace(None)
    return interrupter.count

def nothing_is_lost():
    s = pool.statistics()
    return s.in_use == s.waiting == 0 and s.idle == s.size

def wait(deadline):
    while not nothing_is_lost():
        assert time.monotonic() < deadline, (pool.statistics(), pool.ledger, pool.strays.find())
        time.sleep(0.01)

connection.ensure_connection()
other = DatabaseWrapper(connection.settings_dict, "default")
pool = connection.pool
connection.close()
run(0)
count = run(0)
assert count > 60, count
for at in range(1, count + 1):
    run(at)
    assert current() is None, at
    mine = connection._lease
    if mine is not None:
        assert mine.use.statement is None, at
    other.ensure_connection()
    theirs = other._lease
    if mine is not None and connection.connection is not None:
        assert mine.connection is not theirs.connection, at
        assert connection.connection is mine.use.raw, at
    idle = pool.ledger.backing.idle_connections()
    assert theirs.connection not in idle, at
    assert len(set(idle)) == len(idle), at
    with other.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    other.close()
    connection.close()
    if at % 40 == 0:
        wait(time.monotonic() + 10)
wait(time.monotonic() + 10)
leases = [pool.borrow() for _ in range(pool.config.max_size)]
assert len({lease.connection for lease in leases}) == pool.config.max_size
for lease in leases:
    pool.give_back(lease)
pool.close()
"""

WORK = {
    "request": """
from django.core.signals import request_finished, request_started
request_started.send(sender=None)
def work():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
""",
    "deadline": """
def work():
    with deadline(50):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    connection.close()
""",
    "early": """
def work():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
""",
    "changed": """
def work():
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '5MB'")
    connection.close()
""",
    "dead": """
def work():
    for idle in pool.ledger.backing.idle_connections():
        idle.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
""",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("work", WORK)
def test_at_any_moment(database: dict[str, Any], work: str) -> None:
    options = {"pool": {"max_size": 60, "timeout": 10}}
    run_script(WORK[work] + SCRIPT, {"default": {**database, "OPTIONS": options}})


class Interrupt(BaseException):
    """As a task's time limit raises it."""


def test_while_a_pool_opens(make_wrapper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next borrower opens one that works."""
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5})

    def interrupted(backing: Any) -> None:
        monkeypatch.undo()
        raise Interrupt

    monkeypatch.setattr(BaseBacking, "_start_workers", interrupted)
    with pytest.raises(Interrupt):
        wrapper.ensure_connection()
    assert fetch(wrapper, "SELECT 1") == 1


def test_whoever_waits_for_a_pool_to_open_is_told_once_more(
    make_wrapper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would look after the pool."""
    wrapper, told = make_wrapper(pool={"max_size": 1, "timeout": 5}), []
    of_pool = wrapper.pool.supply

    def interrupted() -> None:
        monkeypatch.setattr(of_pool, "_on_open", lambda: told.append(True))
        raise Interrupt

    monkeypatch.setattr(of_pool, "_on_open", interrupted)
    with pytest.raises(Interrupt):
        wrapper.ensure_connection()
    assert fetch(wrapper, "SELECT 1") == 1
    assert told == [True]


@pytest.mark.parametrize("where", ["close", "_signal_stop_worker", "run_task"])
def test_while_a_pool_closes(
    make_wrapper: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """No thread of it is left, and the next borrower opens another one."""
    monkeypatch.setattr(supply, "LOOK_EVERY", 0.02)
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5})
    assert fetch(wrapper, "SELECT 1") == 1
    wrapper.close()
    backing = wrapper.pool.ledger.backing
    threads = [backing._sched_runner, *backing._workers]
    assert len(threads) >= 3

    def interrupted(*args: Any) -> None:
        monkeypatch.delattr(backing, where)
        raise Interrupt

    monkeypatch.setattr(backing, where, interrupted, raising=False)
    with pytest.raises(Interrupt):
        wrapper.close_pool()
    assert fetch(wrapper, "SELECT 1") == 1
    wait_until(lambda: not any(thread.is_alive() for thread in threads))
    assert wrapper.pool.ledger.closing == {}


def test_a_connection_that_was_lost_before_its_pool_closed(
    make_wrapper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed, and the pool that opened since doesn't take it for one of its own."""
    monkeypatch.setattr(strays, "LOOK_EVERY", 0.02)
    wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5})
    pool = wrapper.pool
    wrapper.ensure_connection()
    wrapper.close()
    lost = pool.ledger.backing.borrow(5)  # nobody notes it
    pool.close()
    wrapper.ensure_connection()
    for _ in range(3):
        pool.strays._looked_at = 0.0
        pool.strays.look()
    wait_until(lambda: lost.closed)
    assert pool.statistics().size == pool.statistics().in_use == 1
