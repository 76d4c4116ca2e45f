"""What is timed in a contestant's process. A job takes parameters and returns figures."""

from __future__ import annotations

import math
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..traffic import percentile
from .instructions import Counter
from .subjects import Subject

Figures = dict[str, float]

ORM = -1  # in place of a number of queries: one object through the ORM


@dataclass(frozen=True, slots=True)
class Taken:
    """The figures of the turns that threads took.

    Turns that were under way when the time was over don't count as turns. But they are kept:
    otherwise the waits would leave out those who waited all the time.
    """

    in_time: list[list[float]]
    late: list[float]
    seconds: float
    cpu: float


class Jobs:
    """The jobs of one process; `run` does one of them by name."""

    def __init__(self, subject: Subject, counter: Counter) -> None:
        self._subject = subject
        self._counter = counter

    def run(self, job: str, **params: Any) -> Figures:
        jobs: dict[str, Callable[..., Figures]] = {
            "requests": self.requests,
            "borrows": self.borrows,
            "threads": self.threads,
            "slow": self.slow,
            "first": self.first,
            "share": self.share,
            "burst": self.burst,
        }
        return jobs[job](**params)

    def requests(self, queries: int, count: int) -> Figures:
        """Do that many requests, one after another: what one costs, in microseconds."""
        request = self._subject.request
        if queries == ORM:
            return self._repeat(self._subject.orm_request, count)
        return self._repeat(lambda: request(queries), count)

    def borrows(self, count: int) -> Figures:
        return self._repeat(self._subject.borrow, count)

    def threads(self, threads: int, seconds: float) -> Figures:
        """Do requests in threads for a time: how many, and how long they waited."""
        ask = self._subject.waited_request
        taken = self._in_threads(threads, seconds, ask)
        turns = [len(mine) for mine in taken.in_time]
        all_waits = [*chain.from_iterable(taken.in_time), *taken.late]
        return {
            "rate": sum(turns) / taken.seconds,
            "cpu_us": taken.cpu / max(1, sum(turns)) * 1e6,
            "wait_p50_ms": percentile(all_waits, 0.50) * 1000,
            "wait_p99_ms": percentile(all_waits, 0.99) * 1000,
            # A thread without a turn counts as having had half of one: the figure stays finite.
            "fairness": max(turns) / max(0.5, min(turns)),
            "memory_mb": _memory() / 2**20,
        }

    def slow(self, threads: int, seconds: float, pause: float) -> Figures:
        """Do slow requests in threads for a time; one that fails counts only as an error."""

        def turn() -> float:
            started = time.perf_counter()
            try:
                self._subject.slow_request(pause)
            except Exception:
                return math.nan
            return time.perf_counter() - started

        taken = self._in_threads(threads, seconds, turn)
        in_time = list(chain.from_iterable(taken.in_time))
        latencies = [each for each in (*in_time, *taken.late) if not math.isnan(each)]
        return {
            "rate": sum(not math.isnan(each) for each in in_time) / taken.seconds,
            "p50_ms": percentile(latencies, 0.50) * 1000,
            "p95_ms": percentile(latencies, 0.95) * 1000,
            "errors": len(in_time) + len(taken.late) - len(latencies),
        }

    def first(self) -> Figures:
        """Do ten requests in a process that has done none: what the first and the tenth took."""
        took = []
        for _ in range(10):
            started = time.perf_counter()
            self._subject.request(1)
            took.append((time.perf_counter() - started) * 1e6)
        return {"first_us": took[0], "second_us": took[1], "tenth_us": took[9]}

    def share(self, threads: int, seconds: float, statement: float, think: float) -> Figures:
        """Do requests of one statement in threads, which do nothing for a while after each."""

        def turn() -> float:
            started = time.perf_counter()
            self._subject.sleepy_request(statement)
            took = time.perf_counter() - started - statement
            if think:
                time.sleep(think)
            return took

        taken = self._in_threads(threads, seconds, turn)
        waits = [*chain.from_iterable(taken.in_time), *taken.late]
        return {
            "requests": len(waits),
            "rate": len(waits) / taken.seconds,
            "cpu_us": taken.cpu / max(1, len(waits)) * 1e6,
            "wait_p50_ms": percentile(waits, 0.50) * 1000,
            "wait_p99_ms": percentile(waits, 0.99) * 1000,
        }

    def burst(self, threads: int, seconds: float, statement: float, wanted: int) -> Figures:
        """Do requests in threads that begin at once: when `wanted` of them had a connection."""
        barrier = threading.Barrier(threads)
        first: list[float] = []
        errors: list[Exception] = []

        def work() -> None:
            barrier.wait()
            end = time.perf_counter() + seconds
            # Long enough for nobody to have the connection of one that is done.
            try:
                first.append(self._subject.sleepy_request(0.5))
            except Exception as ex:
                errors.append(ex)
            while time.perf_counter() < end:
                self._subject.sleepy_request(statement)
            self._subject.end_thread()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        return {"first_ms": sorted(first)[wanted - 1] * 1000}

    def _repeat(self, do: Callable[[], None], count: int) -> Figures:
        before = self._counter.read()
        # Of the whole process: a pool's background threads are part of what it costs.
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            do()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        figures = {"cpu_us": cpu / count * 1e6, "wall_us": wall / count * 1e6}
        if before is not None and (after := self._counter.read()) is not None:
            figures["instructions_k"] = (after - before) / count / 1000
        return figures

    def _in_threads(self, threads: int, seconds: float, turn: Callable[[], float]) -> Taken:
        """Let threads take turns until the time is over; a turn returns its figure.

        The threads start together, each after one request that doesn't count.
        """
        barrier = threading.Barrier(threads + 1)
        stop = threading.Event()
        in_time: list[list[float]] = [[] for _ in range(threads)]
        late: list[float] = []
        errors: list[BaseException] = []

        def work(mine: list[float]) -> None:
            try:
                self._subject.waited_request()
                barrier.wait()
                while not stop.is_set():
                    figure = turn()
                    (late if stop.is_set() else mine).append(figure)
            except threading.BrokenBarrierError:
                pass
            except BaseException as ex:
                errors.append(ex)
                barrier.abort()
            finally:
                self._subject.end_thread()

        workers = [threading.Thread(target=work, args=[mine]) for mine in in_time]
        for worker in workers:
            worker.start()
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            pass
        cpu, started = time.process_time(), time.perf_counter()
        time.sleep(0 if errors else seconds)
        stop.set()
        # Before the threads end: closing their connections isn't part of a request's cost.
        cpu, spent = time.process_time() - cpu, time.perf_counter() - started
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        return Taken(in_time, late, spent, cpu)


def _memory() -> float:
    """Return the bytes this process has in memory; if that isn't known, the most it ever had."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * float(resource.getpagesize())
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most if sys.platform == "darwin" else most * 1024)
