"""Owns the measure of a budget whose processes overlap, are killed, and share only the server with others."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ..cluster import SUPERUSER
from .budgets import ALLOWED, BUDGET, PROCESSES, ROLE, STATEMENT, server, start
from .children import Child, ChildError
from .contestants import OURS, Contestant, Settings
from .figures import Case, Figure, Outcome
from .plan import Bench
from .servers import observer

THREADS = 6
GENERATIONS = 4
NO_BUDGET = replace(
    OURS,
    key="no_budget",
    label=f"django_pooled_pg, max_size {ALLOWED}",
    settings=lambda size: {
        "ENGINE": "django_pooled_pg",
        "OPTIONS": {"pool": {"max_size": ALLOWED, "timeout": 10}},
    },
)
_MOST = Figure("most", "most sessions", 0)


def overlap(bench: Bench) -> Iterator[Case]:
    """a budget of 16 while processes are replaced, killed, or in another folder"""
    with server() as address:
        yield _restarted(bench, address)
        yield _killed(bench, address)
        yield _apart(bench, address)


@dataclass
class _Load:
    """Requests of several processes, while the sessions are counted every 10 ms."""

    address: Settings
    seconds: float
    jobs: list[Future[dict[str, float]]] = field(default_factory=list)
    most: int = 0

    def begin(self, executor: ThreadPoolExecutor, child: Child) -> None:
        params: dict[str, Any] = {"threads": THREADS, "statement": STATEMENT, "think": 0.0}
        self.jobs.append(executor.submit(child.ask, "share", seconds=self.seconds, **params))

    def watch(self, until: Callable[[], bool]) -> None:
        # The superuser's connection counts for nobody's limit.
        with observer({**self.address, "USER": SUPERUSER}) as observing:
            while not until():
                row = observing.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [ROLE]
                ).fetchone()
                assert row is not None
                self.most = max(self.most, row[0])
                time.sleep(0.01)


def _case(name: str, *figures: Figure) -> Case:
    case = Case("overlap", name, figures, BUDGET.key)
    case.outcomes = {BUDGET.key: Outcome()}
    return case


def _restarted(bench: Bench, address: Settings) -> Case:
    name = (
        f"a rolling restart: {PROCESSES} new processes beside the old ones, {GENERATIONS - 1} times"
    )
    failed = Figure("failed", "processes with a failed request", 0)
    case = _case(name, Figure("requests", "requests", 0), failed, _MOST)
    load = _Load(address, 6.0 * bench.scale)
    with ExitStack() as stack, ThreadPoolExecutor(2 * PROCESSES + 1) as executor:
        for generation in range(GENERATIONS):
            bench.say(f"overlap: generation {generation}")
            for child in start(stack, BUDGET, address):
                load.begin(executor, child)
            due = time.monotonic() + load.seconds / 2
            load.watch(lambda due=due: time.monotonic() > due)  # type: ignore[misc]
        load.watch(lambda: all(job.done() for job in load.jobs))
    done = [job.result()["requests"] for job in load.jobs if job.exception() is None]
    case.outcomes[BUDGET.key].add(
        {"requests": sum(done), "failed": len(load.jobs) - len(done), "most": load.most}
    )
    return case


def _killed(bench: Bench, address: Settings) -> Case:
    seconds = 60.0 * bench.scale
    case = _case(
        f"kill -9 of one of {PROCESSES} processes each second, {seconds:g} s long",
        Figure("kills", "kills", 0),
        _MOST,
        Figure("all_ms", f"until one process has all {ALLOWED} afterwards, ms"),
    )
    dice = random.Random(1)
    load = _Load(address, seconds)
    with ExitStack() as stack, ThreadPoolExecutor(PROCESSES + int(seconds) + 1) as executor:
        children = start(stack, BUDGET, address)
        for child in children:
            load.begin(executor, child)
        end, kills = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            due = time.monotonic() + 1
            load.watch(lambda due=due: time.monotonic() > due)  # type: ignore[misc]
            victim = dice.randrange(PROCESSES)
            children[victim].kill()
            kills += 1
            children[victim] = Child(BUDGET, address, ALLOWED)
            stack.callback(children[victim].close)
            load.begin(executor, children[victim])
        for child in children:
            child.kill()
        figures = _burst(stack, BUDGET, address, ALLOWED)
    case.outcomes[BUDGET.key].add({"kills": kills, "most": load.most, "all_ms": figures})
    return case


def _apart(bench: Bench, address: Settings) -> Case:
    name = "a second folder, as of another host, while the first one's processes idle with all"
    case = _case(name, Figure("first_s", "s until its first connection", 2))
    for _ in range(bench.few()):
        with ExitStack() as stack:
            _burst(stack, BUDGET, address, ALLOWED)
            took = _burst(stack, BUDGET, address, 1)
            case.outcomes[BUDGET.key].add({"first_s": took / 1000})
    with ExitStack() as stack:
        _burst(stack, NO_BUDGET, address, ALLOWED)
        try:
            took = _burst(stack, NO_BUDGET, address, 1) / 1000
            case.note = f"Without a budget it had one after {took:.2f} s."
        except ChildError as ex:
            case.note = f"Without a budget it is refused: {str(ex).rpartition('FATAL: ')[2]}"
    return case


def _burst(stack: ExitStack, contestant: Contestant, address: Settings, connections: int) -> float:
    """Start a process with a folder of its own; return the ms until it had these connections."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    child = Child(contestant, address, ALLOWED, wrapper=("env", f"TMPDIR={folder}"))
    stack.callback(child.close)
    figures = child.ask(
        "burst", threads=connections, seconds=0, statement=STATEMENT, wanted=connections
    )
    return figures["first_ms"]
