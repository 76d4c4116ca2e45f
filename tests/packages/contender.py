"""A process with one way to get connections, which reports the outcome in each situation.

`SETTINGS` (JSON) has Django's settings, with an alias for each situation, so that each has a pool
of its own; `SERVER` the server's address. With the argument `gevent`, threads are greenlets. Prints JSON.
"""

from __future__ import annotations

import sys

if "gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import gc
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings

from tests.support.queries import connect

# Whoever waits longer than this (and longer than its pool's own limit) waits without a limit.
PATIENCE = 3.0


def fetch(alias: str, sql: str = "SELECT pg_backend_pid()") -> Any:
    from django.db import connections

    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


@contextmanager
def request(alias: str) -> Iterator[None]:
    """Do around the work what Django does around a request."""
    from django.core.signals import request_finished, request_started
    from django.db import connections

    request_started.send(sender=None)
    try:
        yield
    finally:
        request_finished.send(sender=None)
        # Another thread's connection may be shared by then; this one's is Django's business.
        connections[alias].close_if_unusable_or_obsolete()


def in_thread(function: Callable[[], Any], *, within: float = PATIENCE) -> Any:
    """Return what it returns, or its error, or None if it isn't done in time."""
    done: list[Any] = []

    def run() -> None:
        try:
            done.append(function())
        except Exception as ex:
            done.append(ex)

    thread = threading.Thread(target=run, name="asker", daemon=True)
    thread.start()
    thread.join(within)
    return done[0] if done else None


def told(answer: Any) -> str:
    """Say what a request got: an answer, an error, or nothing."""
    if answer is None:
        return "waits without a limit"
    if isinstance(answer, Exception):
        kind = type(answer)
        return f"{kind.__module__}.{kind.__qualname__}: " + " ".join(str(answer).split())
    return "served"


def asked(alias: str) -> Any:
    def ask() -> Any:
        with request(alias):
            return fetch(alias)

    return in_thread(ask)


@contextmanager
def holding(alias: str) -> Iterator[None]:
    """Meanwhile a thread holds a connection, in a transaction."""
    from django.db import connections, transaction

    holds, stop = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(alias):
            fetch(alias)
            holds.set()
            stop.wait(30)
        connections[alias].close()

    holder = threading.Thread(target=hold, name="holder", daemon=True)
    holder.start()
    holds.wait(PATIENCE)
    try:
        yield
    finally:
        stop.set()
        holder.join(PATIENCE)


# What a forked child's session may be, by its exit status.
FORKED = ["its own", "its parent's", "an error"]


# Situations; each has an alias of its name, whose pool has one connection and a time limit of 1 s


def fork(alias: str) -> str:
    """A child queries after its parent did."""
    with request(alias):
        mine = fetch(alias)
    if not (pid := os.fork()):
        signal.alarm(10)
        status = FORKED.index("an error")
        try:
            status = FORKED.index("its parent's" if fetch(alias) == mine else "its own")
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return FORKED[status] if status >= 0 else "hangs"


def thread_ends(alias: str) -> str:
    """A thread outside of any request queries, and ends without closing."""
    in_thread(lambda: fetch(alias))
    gc.collect()  # in case that this is what finds it
    return told(asked(alias))


def thread_lives(alias: str) -> str:
    """A thread outside of any request has queried, and goes on with something else."""
    queried, stop = threading.Event(), threading.Event()

    def work() -> None:
        fetch(alias)
        queried.set()
        stop.wait(30)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    queried.wait(PATIENCE)
    answer = told(asked(alias))
    stop.set()
    worker.join(PATIENCE)
    return answer


def next_request(alias: str) -> str:
    """A request changes its session; the next one looks."""
    with request(alias):
        fetch(alias, "SET work_mem = '5MB'")
    with request(alias):
        return str(fetch(alias, "SHOW work_mem"))


def same_request(alias: str) -> str:
    """A request changes its session, and looks later; the pool has two connections."""
    with holding(alias), request(alias):
        fetch(alias)
    with request(alias):
        fetch(alias, "SET work_mem = '5MB'")
        return ", ".join(sorted({str(fetch(alias, "SHOW work_mem")) for _ in range(2)}))


def terminated(alias: str) -> str:
    """The server ends an idle session; a request follows."""
    with request(alias):
        pid = fetch(alias)
    with connect(json.loads(os.environ["SERVER"])) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    try:
        with request(alias):
            fetch(alias)
    except Exception as ex:
        return told(ex)
    return "served"


def down(alias: str) -> str:
    """The server can't be reached."""
    return told(asked(alias))


def exhausted(alias: str) -> str:
    """A thread holds the only connection, in a transaction."""
    with holding(alias):
        return told(asked(alias))


SITUATIONS = {
    situation.__name__: situation
    for situation in (
        fork,
        thread_ends,
        thread_lives,
        next_request,
        same_request,
        terminated,
        down,
        exhausted,
    )
}


def main() -> None:
    settings.configure(**json.loads(os.environ["SETTINGS"]))
    django.setup()
    answers = {}
    for name, situation in SITUATIONS.items():
        try:
            answers[name] = situation(name)
        except Exception as ex:
            answers[name] = told(ex)
    print(json.dumps(answers), flush=True)
    # A pool without a time limit for its waiters would wait here, too.
    os._exit(0)


if __name__ == "__main__":
    main()
