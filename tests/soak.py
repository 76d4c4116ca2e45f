"""The soak: whatever can happen to a pool, at random and all at once; then the accounts.

    python -m tests.soak --seconds 600 --threads 32 --seed 7

Threads write rows, fail in the middle of it, spoil their sessions, hold connections for too
long, die, fork and close the pool, while somebody kills their server's sessions. Every round of
at most `ROUND` seconds ends with accounts that must be exact: of connections, of rows, of what
was reclaimed. The exit code is 0 if all of them were. The seed decides who does what; when,
the system decides.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import itertools
import logging
import os
import random
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import django
import psycopg
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import (
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from django_pooled_pg import without_connection
from django_pooled_pg.pooling.errors import ForkedInTransaction, PoolExhausted
from django_pooled_pg.pooling.pool import Pool
from testproject.embedded import Cluster

APPLICATION = "soak"  # the application_name of all sessions of the pool
ROLE, OTHER_ROLE = "soak_app", "soak_other"
MIN_SIZE, MAX_SIZE, TIMEOUT = 2, 8, 2.0
POOL = {
    "min_size": MIN_SIZE,
    "max_size": MAX_SIZE,
    "timeout": TIMEOUT,
    # Short, so that connections come and go.
    "max_idle": 2.0,
    "max_lifetime": 5.0,
}
ROUND = 30.0  # seconds
HANGS = 30.0  # seconds; longer than anything may take
SETTLES = 10.0  # seconds from the end of the work to its accounts

# What a borrower must find in its session.
EXPECTED = {
    "current_user": ROLE,
    "session_user": "postgres",
    "current_setting('search_path')": '"$user", public',
    "current_setting('TimeZone')": "Europe/Berlin",
    "current_setting('statement_timeout')": "0",
    "current_setting('default_transaction_read_only')": "off",
    "current_setting('default_transaction_isolation')": "read committed",
    "coalesce(current_setting('soak.mark', true), '')": "",
    "(SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())": 0,
    "(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')": 0,
    "(SELECT count(*) FROM pg_listening_channels())": 0,
    "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql)": 0,
    "(SELECT count(*) FROM pg_cursors WHERE is_holdable)": 0,
    "pg_current_xact_id_if_assigned() IS NULL": True,
}
SPOILERS = [
    "SET search_path TO pg_catalog",
    "SELECT set_config('search_path', 'nowhere', false)",
    f"SET ROLE {OTHER_ROLE}",
    "RESET ROLE",
    f"SET SESSION AUTHORIZATION {OTHER_ROLE}",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET statement_timeout = '59s'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET default_transaction_isolation = 'serializable'",
    "SELECT set_config('soak.mark', 'mine', false)",
    "CREATE TEMPORARY TABLE litter (n int)",
    "SELECT pg_advisory_lock(pg_backend_pid())",
    "LISTEN soak",
    "PREPARE leftover AS SELECT 1",
    "DECLARE leftover CURSOR WITH HOLD FOR SELECT 1",
    "BEGIN",
]

# How a forked child ends.
DONE, WRONG, BROKEN, REFUSED, EXHAUSTED = range(5)


class Mishap(Exception):
    """What goes wrong in an application."""


class Wrong(Exception):
    """What must not happen."""


class Account:
    """What happened in one round; a list's `append` is safe in any thread."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.wrong: list[str] = []
        self.kills = 0
        # Rows by what must have become of them; unknown if the answer to a COMMIT was lost.
        self.present: list[str] = []
        self.absent: list[str] = []
        self.unknown: list[str] = []


class Worker(threading.Thread):
    """Does one piece of work after the other, until time is up or it dies."""

    # The methods, and how often they are chosen.
    TASKS = {
        "write": 40,
        "write_without_transaction": 10,
        "fail": 20,
        "read": 10,
        "leave_cursor_open": 5,
        "spoil": 20,
        "leave_transaction_open": 5,
        "lose_wrapper": 1,
        "close_pool": 0.5,
        "fork": 1,
        "hog": 0.05,
        "die": 2,
    }

    def __init__(self, soak: Soak, number: int) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.soak = soak
        self.account = soak.account
        self.dice = random.Random(f"{soak.seed}-{number}")
        self.rows = (f"{number}-{n}" for n in itertools.count())
        self.left_open: list[Any] = []

    def run(self) -> None:
        while not self.soak.over.is_set():
            (task,) = self.dice.choices(list(self.TASKS), list(self.TASKS.values()))
            self.do(task)
            if task == "die":
                if connection.connection is not None:
                    self.account.happened.append("died holding")
                return

    def do(self, task: str) -> None:
        """Do a piece of work, as a request or on its own; unless it dies, it tidies up."""
        in_request = self.dice.random() < 0.5
        if in_request:
            request_started.send(sender=Worker)
        self.account.happened += [task, self.attempt(getattr(self, task))]
        if task == "die":
            return
        if in_request:
            request_finished.send(sender=Worker)
        # Nothing closes the connection of a request that left an atomic block open.
        connection.close()

    def attempt(self, work: Callable[[], None]) -> str:
        """Return what came of it."""
        try:
            look()
            work()
        except Mishap:
            return "mishap"
        except Exception as ex:
            if outcome := outcome_of(ex):
                return outcome
            self.account.wrong.append(f"{work.__name__}: {traceback.format_exc()}")
            return "wrong"
        return "done"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that writes a row; what must become of the row is noted."""
        row, fate = next(self.rows), self.account.absent
        try:
            with transaction.atomic():
                write(row)
                yield
                fate = self.account.unknown  # from here on: COMMIT
            fate = self.account.present
        finally:
            fate.append(row)

    # Pieces of work

    def write(self) -> None:
        with self.writing():
            if self.dice.random() < 0.3:
                row = next(self.rows)
                self.account.absent.append(row)
                with suppress(Mishap), transaction.atomic():
                    write(row)
                    raise Mishap
                if transaction.get_rollback():
                    # The savepoint's rollback was lost: without a word, Django dooms the block.
                    raise Mishap
            self.pause()

    def write_without_transaction(self) -> None:
        row, fate = next(self.rows), self.account.unknown
        try:
            write(row)
            fate = self.account.present
        finally:
            fate.append(row)

    def fail(self) -> None:
        with self.writing():
            self.pause()
            raise Mishap

    def read(self) -> None:
        list(tags()[:20])
        with without_connection():
            self.pause()
        list(tags()[:20])

    def leave_cursor_open(self) -> None:
        """A server-side cursor, which is closed when somebody else has the session."""
        self.left_open.clear()
        rows = tags().iterator(chunk_size=1)
        next(rows, None)
        self.left_open.append(rows)

    def spoil(self) -> None:
        with connection.cursor() as cursor:
            for spoiler in self.dice.sample(SPOILERS, self.dice.randint(1, 3)):
                # What one of them did may forbid the next one.
                with suppress(ProgrammingError, InternalError):
                    cursor.execute(spoiler)

    def leave_transaction_open(self) -> None:
        self.account.absent.append(row := next(self.rows))
        if self.dice.random() < 0.5:
            transaction.set_autocommit(False)
            write(row)
        else:
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
                write(row)

    def lose_wrapper(self) -> None:
        connections.create_connection("default").ensure_connection()
        self.account.happened.append("lost")

    def close_pool(self) -> None:
        with self.writing():
            connection.close_pool()

    def hog(self) -> None:
        """Hold all there are, for longer than others wait."""
        connection.close()
        with ExitStack() as stack:
            for _ in range(MAX_SIZE):
                other = stack.enter_context(closing(connections.create_connection("default")))
                other.ensure_connection()
            self.soak.over.wait(TIMEOUT * 1.2)

    def die(self) -> None:
        self.account.absent.append(row := next(self.rows))
        if self.dice.random() < 0.5:
            transaction.set_autocommit(False)
        else:
            transaction.atomic().__enter__()
        write(row)
        if self.dice.random() < 0.5:
            self.spoil()

    def fork(self) -> None:
        kind = self.dice.choice(["leaves", "leaves in atomic", "writes", "asks in atomic"])
        self.account.happened.append(f"child {kind}")
        if kind == "leaves":
            self.in_child(lambda: None)
        elif kind == "leaves in atomic":
            with self.writing():
                self.in_child(lambda: None)
        elif kind == "asks in atomic":
            with self.writing():
                self.in_child(child_asks_in_atomic)
        else:
            row = next(self.rows)
            code = self.in_child(lambda: child_writes(row))
            (self.account.present if code == DONE else self.account.unknown).append(row)

    def in_child(self, work: Callable[[], None]) -> int:
        if not (child := os.fork()):
            become_child(work)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcomes = {DONE: "done", BROKEN: "broken", REFUSED: "refused", EXHAUSTED: "exhausted"}
        self.account.happened.append(outcomes.get(code, "wrong"))
        if code not in outcomes:
            self.account.wrong.append(f"a child ended with {code}")
        return code

    def pause(self) -> None:
        self.soak.over.wait(self.dice.expovariate(200))


def become_child(work: Callable[[], None]) -> None:
    code = WRONG
    try:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        work()
        code = DONE
    except Exception as ex:
        codes = {"broken": BROKEN, "refused": REFUSED, "exhausted": EXHAUSTED}
        code = codes.get(outcome_of(ex) or "", WRONG)
        if code == WRONG:
            traceback.print_exc()
    finally:
        os._exit(code)


def child_writes(row: str) -> None:
    gc.collect()
    look()
    write(row)
    connection.close_pool()
    connection.close()


def child_asks_in_atomic() -> None:
    try:
        look()
    except ForkedInTransaction:
        connection.close()
    else:
        raise Wrong("a child used its parent's transaction")


def tags() -> Any:
    return apps.get_model("library", "Tag").objects.all()


def write(row: str) -> None:
    tags().create(name=row)


def look() -> None:
    """Look whether the session is as good as new."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(EXPECTED)}")
        found = cursor.fetchone()
    strange = {
        what: value
        for (what, wanted), value in zip(EXPECTED.items(), found, strict=True)
        if value != wanted
    }
    if strange:
        raise Wrong(f"found in the session: {strange}")


def outcome_of(error: Exception) -> str | None:
    """Name what may happen when sessions are killed and connections are few."""
    if isinstance(error, PoolExhausted):
        return "exhausted"
    if isinstance(error, (OperationalError, InterfaceError)):
        frames = traceback.walk_tb(error.__traceback__)
        borrowing = any(frame.f_code is Pool.borrow.__code__ for frame, _ in frames)
        return "refused" if borrowing else "broken"
    return None


class Soak:
    """Lets workers work, has their sessions killed, and draws up the accounts."""

    def __init__(self, cluster: Cluster, seed: int, threads: int) -> None:
        self.cluster = cluster
        self.seed = seed
        self.threads = threads
        self.over = threading.Event()
        self.account = Account()
        self._numbers = itertools.count()
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
        self._settle(None)
        self._rows()
        self.account = Account()
        reclaimed = self.pool.statistics().reclaimed
        self.over.clear()
        killer = threading.Thread(target=self._kill, name="killer", daemon=True)
        killer.start()
        workers = [self._start_worker() for _ in range(self.threads)]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)
            workers = [w if w.is_alive() else self._start_worker() for w in workers]
            self._check_bounds()
        self.over.set()
        for thread in [killer, *workers]:
            thread.join(HANGS)
            if thread.is_alive():
                faulthandler.dump_traceback(all_threads=True)
                self.account.wrong.append(f"{thread.name} hangs")
                return self.account
        self._settle(reclaimed)
        self._check_slots()
        self._check_sizes()
        self._kill_idle()
        self._check_slots()
        self._check_sizes()
        self._check_rows()
        self._check_errors()
        return self.account

    def _start_worker(self) -> Worker:
        worker = Worker(self, next(self._numbers))
        worker.start()
        return worker

    def _kill(self) -> None:
        dice = random.Random(f"{self.seed}-killer")
        with closing(self._superuser()) as superuser:
            while not self.over.wait(dice.uniform(0.02, 0.3)):
                pids = self._sessions(superuser)
                # Mostly one of them; sometimes all, as a restart does.
                count = dice.choice([1, 1, 1, len(pids) // 2, len(pids)])
                for pid in dice.sample(pids, min(count, len(pids))):
                    self.account.kills += 1  # first: what it breaks may be counted at once
                    superuser.execute("SELECT pg_terminate_backend(%s)", [pid])
                if dice.random() < 0.05:
                    connection.close_pool()  # in a thread that never borrowed

    def _kill_idle(self) -> None:
        """Nobody is at work: none of those who come next may notice."""
        with closing(self._superuser()) as superuser:
            killed = set(self._sessions(superuser))
            for pid in killed:
                superuser.execute("SELECT pg_terminate_backend(%s)", [pid])
            if not becomes_true(lambda: not killed & set(self._sessions(superuser))):
                self.account.wrong.append("sessions don't end")

    def _superuser(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.cluster.dsn, autocommit=True)

    def _sessions(self, superuser: psycopg.Connection[Any]) -> list[int]:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        return [pid for (pid,) in superuser.execute(sql, [APPLICATION])]

    def _session_count(self) -> int:
        with closing(self._superuser()) as superuser:
            return len(self._sessions(superuser))

    # Accounts

    def _check_bounds(self) -> None:
        now = self.pool.statistics()
        # After a close_pool() nothing but leases may be there, some of the pool before.
        size_is_right = 0 <= now.size <= MAX_SIZE or now.size == now.in_use
        if not (size_is_right and 0 <= now.waiting <= self.threads):
            self.account.wrong.append(f"out of bounds: {now}")

    def _settle(self, reclaimed: int | None) -> None:
        """Nothing is in use, nobody waits, and what was lost was reclaimed once."""
        happened = Counter(self.account.happened)
        lost = happened["died holding"] + happened["lost"]
        gc.collect()

        def settled() -> bool:
            now = self.pool.statistics()
            return (
                now.in_use == now.waiting == 0
                and now.borrows == now.returns
                and now.idle == now.size
                and (reclaimed is None or now.reclaimed - reclaimed == lost)
            )

        if not becomes_true(settled):
            self.account.wrong.append(
                f"not settled: {lost} leases were lost after {reclaimed}; {self.pool.statistics()}"
            )

    def _check_slots(self) -> None:
        """`max_size` connections can be borrowed at once: no slot is missing, none is dead."""
        with ExitStack() as stack:
            pids = set()
            for _ in range(MAX_SIZE):
                other = stack.enter_context(closing(connections.create_connection("default")))
                try:
                    other.ensure_connection()
                    with other.cursor() as cursor:
                        cursor.execute("SELECT pg_backend_pid()")
                        pids.add(cursor.fetchone()[0])
                except Exception as ex:
                    self.account.wrong.append(f"{len(pids)} of {MAX_SIZE} slots, then: {ex!r}")
                    return

            def all_in_use() -> bool:
                now = self.pool.statistics()
                figures = {len(pids), now.in_use, now.size, self._session_count()}
                return figures == {MAX_SIZE}

            if not becomes_true(all_in_use):
                self.account.wrong.append(
                    f"{len(pids)} connections lent, {self._session_count()} sessions on the "
                    f"server; {self.pool.statistics()}"
                )

    def _check_sizes(self) -> None:
        """Pool and server agree on how many sessions there are."""

        def agreed() -> bool:
            now = self.pool.statistics()
            return now.in_use == 0 and MIN_SIZE <= now.size == self._session_count() <= MAX_SIZE

        if not becomes_true(agreed):
            self.account.wrong.append(
                f"{self._session_count()} sessions on the server; {self.pool.statistics()}"
            )

    def _rows(self) -> set[str]:
        """Return the rows that are there, and remove them."""
        with closing(self._superuser()) as superuser:
            superuser.execute("SET lock_timeout = '10s'")
            found = superuser.execute("DELETE FROM library_tag RETURNING name")
            return {name for (name,) in found}

    def _check_rows(self) -> None:
        found = self._rows()
        present, absent = set(self.account.present), set(self.account.absent)
        if missing := present - found:
            self.account.wrong.append(f"committed, but not there: {sorted(missing)}")
        if undead := absent & found:
            self.account.wrong.append(f"rolled back, but there: {sorted(undead)}")
        if strange := found - present - absent - set(self.account.unknown):
            self.account.wrong.append(f"nobody wrote these: {sorted(strange)}")
        if not present:
            self.account.wrong.append("nothing was written")

    def _check_errors(self) -> None:
        # Each session that is killed can be lent once more at most.
        broken = self.account.happened.count("broken")
        if broken > self.account.kills:
            self.account.wrong.append(f"{self.account.kills} kills broke {broken} times")


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SETTLES
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Complaints(logging.Handler):
    """Whatever is logged as an error, or raised where nobody can catch it, is wrong."""

    def __init__(self, soak: Soak) -> None:
        super().__init__(logging.ERROR)
        self.soak = soak

    def emit(self, record: logging.LogRecord) -> None:
        self.soak.account.wrong.append(f"logged: {self.format(record)}")

    def install(self) -> None:
        logging.getLogger().addHandler(self)
        # Warnings are what the pool says about reclaimed and broken connections.
        logging.lastResort = None
        sys.unraisablehook = lambda x: self.unhandled(x.exc_value)
        threading.excepthook = lambda x: self.unhandled(x.exc_value)

    def unhandled(self, error: BaseException | None) -> None:
        text = "".join(traceback.format_exception(error)) if error else "something"
        self.soak.account.wrong.append(f"unhandled: {text}")


def set_up(cluster: Cluster) -> None:
    with closing(psycopg.connect(cluster.dsn, autocommit=True)) as superuser:
        superuser.execute(
            f"CREATE ROLE {ROLE}; CREATE ROLE {OTHER_ROLE}; GRANT ALL ON SCHEMA public TO {ROLE}"
        )
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django_pooled_pg",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": "127.0.0.1",
                "PORT": cluster.port,
                "TIME_ZONE": "Europe/Berlin",
                "OPTIONS": {
                    "application_name": APPLICATION,
                    "assume_role": ROLE,
                    "pool": POOL,
                },
            }
        },
        INSTALLED_APPS=["django_pooled_pg", "testproject.library"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    # Closing it failed, because its session had been killed.
    warnings.filterwarnings("ignore", ".*Cursor.* was deleted while still open", ResourceWarning)
    with Cluster(settings={"max_connections": "200"}) as cluster:
        set_up(cluster)
        soak = Soak(cluster, arguments.seed, arguments.threads)
        Complaints(soak).install()
        soak.warm_up()
        remaining = arguments.seconds
        while remaining > 0:
            account = soak.round(min(remaining, ROUND))
            remaining -= ROUND
            report(account)
            if account.wrong:
                return 1
        connection.close_pool()
        if not becomes_true(lambda: not soak._session_count()):
            print("WRONG: sessions outlive the pool")
            return 1
        print(soak.pool.statistics())
    return 0


def report(account: Account) -> None:
    print(
        f"rows: {len(account.present)} committed, {len(account.absent)} rolled back, "
        f"{len(account.unknown)} unknown; sessions killed: {account.kills}"
    )
    happened = sorted(Counter(account.happened).items())
    print(" ", ", ".join(f"{what}: {count}" for what, count in happened), flush=True)
    for wrong in account.wrong[:20]:
        print("WRONG:", wrong[:4000], flush=True)
    if len(account.wrong) > 20:
        print(f"WRONG: and {len(account.wrong) - 20} more")


if __name__ == "__main__":
    sys.exit(main())
