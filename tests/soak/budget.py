"""Owns the soak of a budget: processes share 16 connections, and one is killed each second.

The server enforces the budget by a CONNECTION LIMIT. Each round ends with accounts: never more
sessions than that, no failed request, as many slots as sessions, and one process can have them all.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg

from testproject.embedded import Cluster
from tests.soak.account import becomes_true
from tests.support.budgeted import ROLE, Host, Process, Watch, host

BUDGET, PROCESSES, THREADS = 16, 4, 8
_LINGERS = 3.0  # seconds for which those that are not killed work on


def soak(cluster: Cluster, seconds: float, each: float, seed: int) -> int:
    """Return how many rounds went wrong."""
    hba = cluster.data / "pg_hba.conf"
    hba.write_text(f"host all {ROLE} 127.0.0.1/32 trust\n{hba.read_text()}")
    with psycopg.connect(cluster.dsn, autocommit=True) as superuser:
        superuser.execute("SELECT pg_reload_conf()")
        superuser.execute(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {BUDGET}")
    dice, failed = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, host(Path(folder, "run"), cluster.port) as site:
        while seconds > 0:
            wrong = _Round(cluster, site, dice).run(min(seconds, each))
            failed += bool(wrong)
            for each_wrong in wrong:
                print("WRONG:", each_wrong, flush=True)
            seconds -= each
    return failed


class _Round:
    def __init__(self, cluster: Cluster, site: Host, dice: random.Random) -> None:
        self._cluster, self._site, self._dice = cluster, site, dice
        self._over = threading.Event()
        self._most = 0
        self.wrong: list[str] = []

    def run(self, seconds: float) -> list[str]:
        """Work and kill so long; return what is wrong."""
        end = time.monotonic() + seconds
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        processes = [self._worker(end) for _ in range(PROCESSES)]
        kills = 0
        while time.monotonic() < end:
            time.sleep(1)
            victim = self._dice.randrange(PROCESSES)
            processes[victim].kill()
            processes[victim] = self._worker(end)
            kills += 1
        done = 0
        for process in processes:
            answer = process.answer()
            done += answer["done"]
            self.wrong += answer["errors"]
        self._check(processes)
        self._over.set()
        watcher.join()
        if self._most > BUDGET:
            self.wrong.append(f"{self._most} sessions")
        print(
            f"kills: {kills}, most sessions: {self._most}, requests of the last: {done}", flush=True
        )
        for process in processes:
            process.kill()
        self._check_all_can_be_had()
        self._site.stop()
        self._site.processes.clear()
        return self.wrong

    def _worker(self, end: float) -> Process:
        process = self._site.one(budget=BUDGET, min_size=self._dice.choice([0, 1, 3]))
        seconds = max(0.0, end - time.monotonic()) + _LINGERS
        process.begin("load", THREADS, seconds, 0.005, self._dice.choice([0.0, 0.05]))
        return process

    def _watch(self) -> None:
        with psycopg.connect(self._cluster.dsn, autocommit=True) as superuser:
            watch = Watch(superuser)
            while not self._over.is_set():
                self._most = max(self._most, watch.during(0.1))

    def _check(self, processes: list[Process]) -> None:
        """Nobody works: each slot has its session, and each session its slot."""

        def said() -> list[int]:
            looks = [process.look() for process in processes]
            found = [sum(look[key] for look in looks) for key in ("size", "slots", "in_use")]
            members = looks[0]["members"]
            return [*found, sum(each["held"] for each in members), len(members), self._sessions()]

        def exact() -> bool:
            size, slots, lent, held, members, sessions = said()
            return size == slots == held == sessions and not lent and members == len(processes)

        if not becomes_true(exact):
            self.wrong.append(f"size, slots, lent, held, members, sessions: {said()}")

    def _sessions(self) -> int:
        with closing(psycopg.connect(self._cluster.dsn, autocommit=True)) as superuser:
            return Watch(superuser).sessions()

    def _check_all_can_be_had(self) -> None:
        told = self._site.one(budget=BUDGET).do("hold", BUDGET)
        self.wrong += [f"a slot is lost: {error}" for _, error in told if error]
