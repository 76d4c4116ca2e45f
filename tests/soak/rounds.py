"""Runs a round: lets workers work, has their sessions killed and their work interrupted."""

from __future__ import annotations

import faulthandler
import itertools
import random
import threading
import time
from contextlib import closing
from typing import Any

import psycopg
from django.db import connection

from django_pooled_pg.pooling.pool import Pool
from testproject.embedded import Cluster
from tests.soak.account import Account, becomes_true
from tests.soak.audit import Audit
from tests.soak.child import HANGS
from tests.soak.site import APPLICATION
from tests.soak.tasks import Loop
from tests.soak.worker import Worker


class Soak:
    """Lets workers work, round after round, and has the accounts drawn up."""

    def __init__(self, cluster: Cluster, seed: int, threads: int, tasks: int) -> None:
        self.cluster = cluster
        self.seed = seed
        self.threads = threads
        self.tasks = tasks
        self.over = threading.Event()
        self.account = Account()
        self._numbers = itertools.count()
        self._workers: list[Worker] = []
        assert isinstance(connection.pool, Pool)
        self.pool: Pool = connection.pool

    def warm_up(self) -> None:
        """Have everything imported: a fork in the middle of an import leaves it locked."""
        worker = Worker(self, next(self._numbers))
        for task in Worker.TASKS:
            if task not in ("die", "hog", "fork"):
                worker.do(task)

    def round(self, seconds: float) -> Account:
        # The warm-up lost a wrapper, and wrote.
        audit = Audit(self)
        audit.settle(None)
        audit.take_rows()
        self.account = audit.account = Account()
        reclaimed = self.pool.statistics().reclaimed
        self.over.clear()
        others = [
            threading.Thread(target=self._kill, name="killer", daemon=True),
            threading.Thread(target=self._interrupt, name="interrupter", daemon=True),
        ]
        others += [
            Loop(self, next(self._numbers), self.tasks // 2) for _ in range(2 * (self.tasks > 1))
        ]
        self._workers = [self._start_worker() for _ in range(self.threads)]
        for thread in others:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)
            self._workers = [w if w.is_alive() else self._start_worker() for w in self._workers]
            audit.check_bounds()
        self.over.set()
        for thread in [*others, *self._workers]:
            thread.join(HANGS)
            if thread.is_alive():
                faulthandler.dump_traceback(all_threads=True)
                self.account.wrong.append(f"{thread.name} hangs")
                return self.account
        self._workers.clear()
        audit.settle(reclaimed)
        audit.check_slots()
        audit.check_sizes()
        self._kill_idle()
        audit.check_slots()
        audit.check_sizes()
        audit.check_rows()
        audit.check_errors()
        return self.account

    def _start_worker(self) -> Worker:
        worker = Worker(self, next(self._numbers))
        worker.start()
        return worker

    def _kill(self) -> None:
        dice = random.Random(f"{self.seed}-killer")
        with closing(self.superuser()) as superuser:
            while not self.over.wait(dice.uniform(0.02, 0.3)):
                pids = self._sessions(superuser)
                # Mostly one of them; sometimes all, as a restart does.
                count = dice.choice([1, 1, 1, len(pids) // 2, len(pids)])
                for pid in dice.sample(pids, min(count, len(pids))):
                    self.account.kills += 1  # first: what it breaks may be counted at once
                    superuser.execute("SELECT pg_terminate_backend(%s)", [pid])
                if dice.random() < 0.05:
                    connection.close_pool()  # in a thread that never borrowed

    def _interrupt(self) -> None:
        dice = random.Random(f"{self.seed}-interrupter")
        while not self.over.wait(dice.uniform(0.01, 0.1)):
            target = dice.choice(self._workers).interruptible
            if target is not None and target.interrupt():
                self.account.interrupts += 1

    def _kill_idle(self) -> None:
        """Nobody is at work: none of those who come next may notice."""
        with closing(self.superuser()) as superuser:
            killed = set(self._sessions(superuser))
            for pid in killed:
                superuser.execute("SELECT pg_terminate_backend(%s)", [pid])
            if not becomes_true(lambda: not killed & set(self._sessions(superuser))):
                self.account.wrong.append("sessions don't end")

    def superuser(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.cluster.dsn, autocommit=True)

    def _sessions(self, superuser: psycopg.Connection[Any]) -> list[int]:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        return [pid for (pid,) in superuser.execute(sql, [APPLICATION])]

    def session_count(self) -> int:
        with closing(self.superuser()) as superuser:
            return len(self._sessions(superuser))
