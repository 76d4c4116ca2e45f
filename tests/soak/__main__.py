"""The soak: whatever can happen to a pool, at random and all at once; then the accounts.

    python -m tests.soak --seconds 600 --threads 32 --tasks 40 --seed 7
    python -m tests.soak --seconds 600 --budget

Threads write rows, fail halfway, spoil their sessions, keep psycopg's objects, hold connections for
too long, die, fork and close the pool, while tasks of two event loops do the like and are canceled,
somebody kills their server's sessions, and somebody else interrupts the threads. Every round of at
most `ROUND` seconds ends with accounts that must be exact: of connections, of rows, of what was
reclaimed. The exit code is 0 if all of them were. The seed decides who does what; the system decides
when.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import random
import sys
import threading
import traceback
import warnings

import psycopg
from django.db import connection

from testproject.embedded import Cluster
from tests.soak import budget
from tests.soak.account import Account, becomes_true
from tests.soak.interrupts import Interrupted
from tests.soak.rounds import Soak
from tests.soak.site import set_up

ROUND = 30.0  # seconds


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
        sys.unraisablehook = self.unraisable
        threading.excepthook = lambda x: self.unhandled(x.exc_value)

    def unraisable(self, what: sys.UnraisableHookArgs) -> None:
        # What a coroutine is doing when it is collected may fail: nothing can be awaited there.
        is_collected = inspect.iscoroutine(what.object) or inspect.isasyncgen(what.object)
        if not (is_collected or "ignored GeneratorExit" in str(what.exc_value)):
            self.unhandled(what.exc_value)

    def unhandled(self, error: BaseException | None) -> None:
        if isinstance(error, Interrupted):
            return  # it hit a destructor
        if isinstance(error, psycopg.InterfaceError) and "returned to its pool" in str(error):
            return  # what a worker that died had kept was collected
        text = "".join(traceback.format_exception(error)) if error else "something"
        self.soak.account.wrong.append(f"unhandled: {text}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=0, help="those of two event loops")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--budget", action="store_true", help="of processes that share a budget")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    if arguments.budget:
        with Cluster() as cluster:
            return budget.soak(cluster, arguments.seconds, ROUND, arguments.seed) and 1
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    # Closing it failed, because its session had been killed.
    warnings.filterwarnings("ignore", ".*Cursor.* was deleted while still open", ResourceWarning)
    # Of a task that hadn't begun when its loop was left.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    with Cluster(settings={"max_connections": "200"}) as cluster:
        set_up(cluster)
        soak = Soak(cluster, arguments.seed, arguments.threads, arguments.tasks)
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
        if not becomes_true(lambda: not soak.session_count()):
            print("WRONG: sessions outlive the pool")
            return 1
        print(soak.pool.statistics())
    return 0


def report(account: Account) -> None:
    unknown = set(account.tried) - set(account.present) - set(account.absent)
    print(
        f"rows: {len(account.present)} committed, {len(account.absent)} rolled back, "
        f"{len(unknown)} unknown; sessions killed: {account.kills}; interrupts: "
        f"{account.interrupts}"
    )
    happened = sorted(account.happened.items())
    print(" ", ", ".join(f"{what}: {count}" for what, count in happened), flush=True)
    for wrong in account.wrong[:20]:
        print("WRONG:", wrong[:4000], flush=True)
    if len(account.wrong) > 20:
        print(f"WRONG: and {len(account.wrong) - 20} more")


if __name__ == "__main__":
    sys.exit(main())
