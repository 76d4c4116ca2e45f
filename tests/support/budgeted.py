"""Processes that share a budget, each told what to do over a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support.processes import start_script
from tests.support.waiting import wait_until

ROLE = "books"

_SCRIPT = """
import sys, threading, time, random
from dataclasses import asdict
from django_pooled_pg.pooling.process.borrowers import borrower
pool = connection.pool
who = borrower()  # whose thread doesn't end
held = []

def hold(count):
    def borrow():
        started = time.monotonic()
        try:
            held.append(pool.borrow(None, who))
        except Exception as ex:
            told.append([time.monotonic() - started, f"{type(ex).__name__}: {ex}"])
        else:
            told.append([time.monotonic() - started, None])
    told = []
    threads = [threading.Thread(target=borrow) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return told

def free(count=None):
    for lease in list(held)[:count]:
        held.remove(lease)
        pool.give_back(lease)

def load(threads, seconds, query=0.002, think=0.0):
    done, waits, errors = [], [], []
    end = time.monotonic() + seconds
    def work():
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                lease = pool.borrow()
                waits.append(time.monotonic() - started)
                try:
                    lease.connection.execute("SELECT pg_sleep(%s)", [query])
                finally:
                    pool.give_back(lease)
                done.append(1)
            except Exception as ex:
                errors.append(f"{type(ex).__name__}: {ex}")
            if think:
                time.sleep(think)
    began, cpu = time.monotonic(), time.process_time()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    waits.sort()
    return {"done": len(done), "errors": errors[:5], "failed": len(errors),
            "seconds": time.monotonic() - began, "cpu": time.process_time() - cpu,
            "longest": waits[-1] if waits else None,
            "p99": waits[int(len(waits) * 0.99)] if waits else None}

def look():
    s = pool.statistics()
    member = pool.supply.member
    return {"size": s.size, "idle": s.idle, "in_use": s.in_use, "waiting": s.waiting,
            "connects": s.connects, "errors": s.connect_errors,
            "slots": len(member.holding) if member else None,
            "members": [asdict(each) for each in member.members()] if member else []}

def fork():
    pid = os.fork()
    if not pid:
        try:
            lease = connection.pool.borrow()
            connection.pool.give_back(lease)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fork_idle():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def lock_giving():
    return pool.supply.member._membership.file.lock_giving()

def steer(name, *args):
    getattr(pool, name)(*args)

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    name, args = json.loads(line)
    print(json.dumps(globals()[name](*args)), flush=True)
"""


@dataclass
class Process:
    """One process with a pool."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, name: str, *args: Any) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):
            print(json.dumps([name, args]), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.complaint()
        return json.loads(line)

    def do(self, name: str, *args: Any) -> Any:
        self.begin(name, *args)
        return self.answer()

    def complaint(self) -> str:
        assert self.process.stderr
        self.process.wait(10)
        return self.process.stderr.read()

    def hold(self, count: int) -> list[float]:
        """Borrow connections, all at once; return how long each took."""
        told = self.do("hold", count)
        errors = [error for _, error in told if error]
        assert not errors, errors
        return [seconds for seconds, _ in told]

    def free(self, count: int | None = None) -> None:
        self.do("free", count)

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = self.do("look")
        return found

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> str:
        """Let it end as its time comes; return what it said on stderr."""
        assert self.process.stdin
        assert self.process.stderr
        self.process.stdin.close()
        said = self.process.stderr.read()
        assert self.process.wait(30) == 0, said
        return said


@dataclass
class Host:
    """A runtime folder, and the processes that share it."""

    folder: Path
    server: dict[str, Any]
    processes: list[Process]

    def start(self, count: int = 1, **pool: Any) -> list[Process]:
        options = {"timeout": 20, **pool}
        database = {**self.server, "OPTIONS": {"pool": options}}
        started = [
            Process(
                start_script(_SCRIPT, {"default": database}, POOLED_PG_RUNTIME_DIR=str(self.folder))
            )
            for _ in range(count)
        ]
        self.processes += started
        for each in started:
            assert each.answer() == "ready"
        return started

    def one(self, **pool: Any) -> Process:
        (process,) = self.start(1, **pool)
        return process

    def stop(self) -> None:
        for each in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGKILL)
            for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            each.process.wait(10)


@contextmanager
def host(folder: Path, port: int, user: str = ROLE) -> Iterator[Host]:
    """Processes that share a runtime folder. All are gone when the block ends."""
    folder.mkdir(mode=0o700, exist_ok=True)
    server = {
        "ENGINE": "django_pooled_pg",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "USER": user,
        "NAME": "postgres",
    }
    made = Host(folder, server, [])
    try:
        yield made
    finally:
        made.stop()


class Watch:
    """Counts the role's sessions."""

    def __init__(self, superuser: psycopg.Connection[Any]) -> None:
        self._superuser = superuser
        self.most = 0

    def sessions(self) -> int:
        row = self._superuser.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [ROLE]
        ).fetchone()
        assert row is not None
        self.most = max(self.most, row[0])
        return int(row[0])

    def during(self, seconds: float) -> int:
        """Look every 10 ms; return the most that there were."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.sessions()
            time.sleep(0.01)
        return self.most

    def until(self, count: int, within: float = 10.0) -> None:
        wait_until(lambda: self.sessions() == count, within, f"not {count} sessions")
