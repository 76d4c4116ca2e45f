"""What is measured in the contestants' processes: which work, how often, which figures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from .children import Child, by_turns
from .contestants import (
    BARE,
    CONNECT,
    DJANGO,
    OURS,
    OURS_TRANSACTION,
    PERSISTENT,
    PREWARMED,
    PREWARMED_TRANSACTION,
    Contestant,
    Settings,
)
from .figures import Case, Figure, Outcome
from .jobs import ORM
from .plan import (
    CPU,
    INSTRUCTIONS,
    NEEDED,
    ONE_QUERY,
    ORM_CASE,
    RATE,
    TEN_QUERIES,
    THREADS,
    WALL,
    Bench,
)
from .servers import connections, observer

SLOW_THREADS, SLOW_SIZE, SLOW_PAUSE = 24, 4, 0.05


def request(bench: Bench) -> Iterator[Case]:
    """the cost of one small request, in one thread"""
    contestants = bench.contestants()
    with bench.children(contestants, 4) as (children, outcomes):
        for name, queries in ((ONE_QUERY, 1), (TEN_QUERIES, 10), (ORM_CASE, ORM)):
            bench.say(f"request: {name}")
            case = Case("request", name, (CPU, WALL, INSTRUCTIONS), PERSISTENT.key)
            case.outcomes = {
                each.key: Outcome(error=outcomes[each.key].error)
                for each in contestants
                if queries != ORM or each.kind == "django"
            }
            _repeat(bench, case, children, "requests", 0.04, queries=queries)
            yield case


def borrow(bench: Bench) -> Iterator[Case]:
    """a borrow and a return alone, in one thread"""
    bench.say("borrow")
    case = Case("borrow", "a borrow and a return", (CPU, WALL, INSTRUCTIONS), DJANGO.key)
    # Without a pool, this is a connect.
    contestants = [each for each in bench.contestants() if each.pooled or each == CONNECT]
    with bench.children(contestants, 4) as (children, case.outcomes):
        _repeat(bench, case, children, "borrows", 0.025)
    yield case


def _repeat(
    bench: Bench,
    case: Case,
    children: Mapping[str, Child],
    job: str,
    seconds: float,
    **params: int,
) -> None:
    counts = {}

    def fit(key: str) -> dict[str, float]:
        """Find how many make a turn; this also warms up."""
        children[key].ask(job, count=20, **params)
        took = children[key].ask(job, count=20, **params)["wall_us"] / 1e6
        counts[key] = max(10, int(seconds * bench.scale / took))
        return {}

    by_turns(case.outcomes, 1, fit)
    by_turns(
        case.outcomes,
        bench.rounds,
        lambda key: children[key].ask(job, count=counts[key], **params),
    )


def throughput(bench: Bench) -> Iterator[Case]:
    """threads that share a few connections"""
    figures = (
        RATE,
        CPU,
        Figure("wait_p50_ms", "wait p50 ms", 2),
        Figure("wait_p99_ms", "wait p99 ms", 2, ratio=True),
        Figure("fairness", "busiest/idlest", 2),
        NEEDED,
        Figure("memory_mb", "memory MB", 0),
    )
    for threads in (16, 64):
        for size in (4, 8, 16):
            name = f"{threads} threads on {size} connections"
            bench.say(f"throughput: {name}")
            # One connection can't be shared; contestants without a pool don't know a size.
            who = [
                each for each in bench.contestants() if each.pooled or (size == 8 and each != BARE)
            ]
            case = Case("throughput", name, figures, DJANGO.key)
            seconds = 0.8 if name == THREADS else 0.4
            rounds = bench.few() if name == THREADS else max(1, bench.few() // 2)
            _in_threads(
                bench, case, who, size, rounds, "threads",
                threads=threads, seconds=seconds * bench.scale,
            )  # fmt: skip
            yield case


def slow(bench: Bench) -> Iterator[Case]:
    """requests that do something slow between two queries"""
    pause = f"{SLOW_PAUSE * 1000:.0f} ms"
    name = f"{SLOW_THREADS} threads on {SLOW_SIZE} connections; a query, {pause}, a query"
    bench.say("slow")
    figures = (
        RATE,
        Figure("p50_ms", "p50 ms"),
        Figure("p95_ms", "p95 ms"),
        Figure("errors", "errors", 0),
        NEEDED,
    )
    case = Case("slow", name, figures, DJANGO.key)
    _in_threads(
        bench, case, [each for each in bench.contestants() if each != BARE], SLOW_SIZE,
        bench.few(), "slow",
        threads=SLOW_THREADS, seconds=0.8 * bench.scale, pause=SLOW_PAUSE,
    )  # fmt: skip
    yield case


def _in_threads(
    bench: Bench,
    case: Case,
    who: Sequence[Contestant],
    size: int,
    rounds: int,
    job: str,
    **params: float,
) -> None:
    with bench.children(who, size) as (children, case.outcomes):

        def turn(key: str) -> dict[str, float]:
            child = children[key]
            with _watched(bench.servers.main, child.application_name) as most:
                figures = child.ask(job, **params)
            return {**figures, "connections": most[0]}

        by_turns(case.outcomes, rounds, turn)


@contextmanager
def _watched(address: Settings, application_name: str) -> Iterator[list[int]]:
    """Yield what holds, at the end, the most connections that a contestant had meanwhile."""
    most = [0]
    stop = threading.Event()

    def watch() -> None:
        with observer(address) as observing:
            most[0] = connections(observing, application_name)
            while not stop.wait(0.1):
                most[0] = max(most[0], connections(observing, application_name))
            most[0] = max(most[0], connections(observing, application_name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def first(bench: Bench) -> Iterator[Case]:
    """the first request of a fresh process"""
    bench.say("first")
    figures = (
        Figure("first_us", "first us", 0, ratio=True),
        Figure("second_us", "second us", 0),
        Figure("tenth_us", "tenth us", 0),
        Figure("first_to_tenth", "first/tenth", 2),
    )
    who = (BARE, PERSISTENT, DJANGO, OURS, OURS_TRANSACTION, PREWARMED, PREWARMED_TRANSACTION)
    case = Case("first", "first, second and tenth request", figures, PERSISTENT.key)
    contestants = {each.key: each for each in bench.contestants(who)}
    case.outcomes = {key: Outcome() for key in contestants}

    def turn(key: str) -> dict[str, float]:
        child = Child(contestants[key], bench.servers.main, 4)
        try:
            took = child.ask("first")
        finally:
            child.close()
        return {**took, "first_to_tenth": took["first_us"] / took["tenth_us"]}

    by_turns(case.outcomes, bench.few(), turn)
    yield case
