"""Faults side by side: this engine and Django's own with a pool. `python -m tests.faults.compare`

Prints a table of failed requests and seconds for each fault. This is no test: the figures are
those of this machine at this moment. Each engine meets each fault in a process of its own, on a
throw-away server, with the same sizes and the same timeout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from testproject.embedded import Cluster

POOL = {"min_size": 4, "max_size": 4, "timeout": 5}
SIZE = 4
OUTAGE = 20.0  # seconds
PATIENCE = 60.0  # seconds until an engine that doesn't recover is given up

ENGINES: dict[str, dict[str, Any]] = {
    "django_pooled_pg": {"ENGINE": "django_pooled_pg"},
    "Django's pool": {"ENGINE": "django.db.backends.postgresql"},
    "Django's pool with CONN_HEALTH_CHECKS": {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_HEALTH_CHECKS": True,
    },
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the requests of one fault. What `seconds` measures, the fault says."""

    requests: int
    failed: int
    seconds: float
    # The errors as far as they differ, with their numbers.
    errors: dict[str, int]


def of(answers: list[Answer], seconds: float | None = None) -> Result:
    """Sum up; without `seconds`, the slowest request counts."""
    errors = [answer.error for answer in answers if answer.error]
    # Those that differ only in their numbers are told once.
    alike = Counter(re.sub(r"\d+", "0", error) for error in errors)
    first = {re.sub(r"\d+", "0", error): error for error in reversed(errors)}
    if seconds is None:
        seconds = max(answer.seconds for answer in answers)
    return Result(
        len(answers), len(errors), seconds, {first[key]: count for key, count in alike.items()}
    )


# Requests


def ask(*, close: bool = True) -> Answer:
    """Do what a request does: borrow, ask, return. Without `close`, don't return."""
    from django.db import connection

    started = time.monotonic()
    error = ""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as ex:
        error = " ".join(f"{type(ex).__name__}: {ex}".split())
    finally:
        if close:
            connection.close()
    return Answer(time.monotonic() - started, error)


def at_once(count: int, **how: Any) -> list[Answer]:
    """Ask in as many threads, which start together and end with their answer."""
    barrier = threading.Barrier(count)
    answers: list[Answer] = []

    def run() -> None:
        barrier.wait()
        answers.append(ask(**how))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@contextmanager
def held_connection() -> Iterator[None]:
    """Meanwhile a thread holds a connection."""
    from django.db import connection

    borrowed, done = threading.Event(), threading.Event()

    def hold() -> None:
        ask(close=False)
        borrowed.set()
        done.wait()
        connection.close()

    thread = threading.Thread(target=hold, name="report")
    thread.start()
    borrowed.wait()
    yield
    done.set()
    thread.join()


def fill() -> None:
    """Bring the pool to its size, with all connections idle."""
    with ExitStack() as stack:
        for _ in range(SIZE):
            stack.enter_context(held_connection())


# Faults: each starts with a full, idle pool


def restart(cluster: Cluster) -> Result:
    """server restarted; 20 requests follow, 4 at a time"""
    cluster.restart()
    return _twenty()


def terminate(cluster: Cluster) -> Result:
    """all sessions terminated; 20 requests follow, 4 at a time"""
    with psycopg.connect(cluster.dsn, autocommit=True) as superuser:
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    return _twenty()


def _twenty() -> Result:
    with ThreadPoolExecutor(SIZE) as executor:
        return of(list(executor.map(lambda _: ask(), range(20))))


def down(cluster: Cluster) -> Result:
    """server down; 8 requests at once, each of which must fail"""
    cluster.stop()
    return of(at_once(8))


def outage(cluster: Cluster) -> Result:
    """server back after 20 s, 4 threads asking; seconds until one of them was served

    psycopg_pool's own attempts come 1, 3, 7, 15, 31 s after the first one: how soon one follows
    the server's return is chance, and at worst it takes as long as the outage.
    """
    stop = threading.Event()
    answers: list[tuple[float, Answer]] = []

    def keep_asking() -> None:
        while not stop.wait(0.1):
            answer = ask()
            answers.append((time.monotonic(), answer))

    cluster.stop()
    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(OUTAGE)
    cluster.start()
    returned = time.monotonic()

    def since() -> list[tuple[float, Answer]]:
        return [(at, answer) for at, answer in list(answers) if at > returned]

    while not any(not answer.error for _, answer in since()):
        if time.monotonic() - returned > PATIENCE:
            break
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    served = next((at for at, answer in since() if not answer.error), time.monotonic())
    return of([answer for at, answer in since() if at <= served], served - returned)


def dying_threads(cluster: Cluster) -> Result:
    """50 threads that end without closing, a query each"""
    return of(at_once(50, close=False))


def exhausted(cluster: Cluster) -> Result:
    """all connections held; 8 requests at once, each of which must fail"""
    with ExitStack() as stack:
        for _ in range(SIZE):
            stack.enter_context(held_connection())
        return of(at_once(8))


FAULTS: dict[str, Callable[[Cluster], Result]] = {
    fault.__name__: fault for fault in (restart, terminate, down, outage, dying_threads, exhausted)
}


# One engine meets one fault, in a process of its own


def meet(engine: str, fault: str, folder: Path) -> Result:
    import logging
    import warnings

    import django
    from django.conf import settings

    # Of each failed attempt, each unclosed connection: known, and not the matter here.
    logging.disable()
    warnings.simplefilter("ignore")
    cluster = Cluster(folder)
    cluster.start()
    database = {
        **ENGINES[engine],
        "HOST": "127.0.0.1",
        "PORT": cluster.port,
        "USER": "postgres",
        "NAME": "postgres",
        "OPTIONS": {"pool": POOL},
    }
    settings.configure(DATABASES={"default": database}, USE_TZ=True)
    django.setup()
    fill()
    return FAULTS[fault](cluster)


def in_a_process(engine: str, fault: str, folder: Path) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.compare", "--meet", engine, fault, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Result(**json.loads(done.stdout))


def compare(faults: list[str]) -> None:
    width = max(map(len, ENGINES))
    with Cluster() as cluster:
        for fault in faults:
            print(f"\n{(FAULTS[fault].__doc__ or fault).splitlines()[0]}")
            for engine in ENGINES:
                result = in_a_process(engine, fault, cluster.folder)
                failed = f"{result.failed} of {result.requests} failed"
                print(f"  {engine:{width}}  {failed:>16}  {result.seconds:7.2f} s", flush=True)
                for error, count in result.errors.items():
                    print(textwrap.indent(textwrap.fill(f"{count} x {error}", 90), 6 * " "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--meet", nargs=3, metavar=("ENGINE", "FAULT", "FOLDER"))
    args = parser.parse_args()
    if args.meet:
        engine, fault, folder = args.meet
        print(json.dumps(asdict(meet(engine, fault, Path(folder)))), flush=True)
        # A pool that is stuck in a connect would make the end of the process wait.
        os._exit(0)
    compare(args.faults or list(FAULTS))


if __name__ == "__main__":
    main()
