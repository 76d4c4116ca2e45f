"""Owns the figures of one pool: the counters it keeps and the snapshot it hands out."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, fields, replace
from typing import Any

BOUNDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""The upper bounds of a histogram's buckets, in seconds; one more bucket has what is longer."""


def empty_buckets() -> list[int]:
    """Return a histogram without any value: how many there are in each bucket of `BOUNDS`."""
    return [0] * (len(BOUNDS) + 1)


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket that a duration belongs in."""
    return bisect_left(BOUNDS, seconds)


@dataclass(slots=True)
class Durations:
    """How long something took, each time, in seconds; `buckets` are those of `BOUNDS`.

    Whoever adds to it holds a lock.
    """

    total: float = 0.0
    max: float = 0.0
    buckets: list[int] = field(default_factory=empty_buckets)

    def add(self, seconds: float) -> None:
        self.total += seconds
        if seconds > self.max:
            self.max = seconds
        self.buckets[bucket_of(seconds)] += 1

    def copy(self) -> Durations:
        return Durations(self.total, self.max, self.buckets.copy())

    def plus(self, other: Durations, sign: int) -> Durations:
        pairs = zip(self.buckets, other.buckets, strict=True)
        return Durations(
            self.total + sign * other.total,
            max(self.max, other.max),
            [ours + sign * theirs for ours, theirs in pairs],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """One pool at one moment. Times are in seconds.

    Gauges (`size`, `in_use`, `idle`, `waiting`) are of this moment and need not add up:
    a connection that is being made or reset counts in none of them but `size`.
    `budget` is that of all processes, 0 where there is none; `slots` those of it that this pool
    has, `slots_wanted` those that it lacks, `slots_given` the connections it gave up to others.
    Counters run from the start of the process.

    - `wait`: from a borrow's begin to its connection;
    - `held`: from there to the return;
    - `worked_total`: of the time held, what statements took;
    - `connect`: making a server session, those that failed not included.
    """

    alias: str
    name: str
    pool_class: str
    return_at: str
    min_size: int
    max_size: int
    timeout: float
    paused: bool
    size: int
    in_use: int
    idle: int
    waiting: int
    budget: int
    slots: int
    slots_wanted: int
    slots_given: int
    borrows: int
    returns: int
    wait: Durations
    held: Durations
    worked_total: float
    exhausted: int
    reclaimed: int
    pinned: int
    dead: int
    resets: int
    connects: int
    connect_errors: int
    connect: Durations

    def of_the_past(self) -> PoolStatistics:
        """Return what remains to be told of a pool that is no more: its counters."""
        return replace(
            self,
            min_size=0,
            max_size=0,
            paused=False,
            size=0,
            in_use=0,
            idle=0,
            waiting=0,
            slots=0,
            slots_wanted=0,
        )

    def plus(self, other: PoolStatistics, sign: int = 1) -> PoolStatistics:
        """Return the same with the counters of another added or, with -1, taken away again."""
        changed: dict[str, Any] = {
            name: getattr(self, name) + sign * getattr(other, name) for name in _COUNTERS
        }
        for name in ("wait", "held", "connect"):
            changed[name] = getattr(self, name).plus(getattr(other, name), sign)
        return replace(self, **changed)


_GAUGES = {"min_size", "max_size", "timeout", "size", "in_use", "idle", "waiting", "budget"}
_GAUGES |= {"slots", "slots_wanted"}
_COUNTERS = [f.name for f in fields(PoolStatistics) if f.type in ("int", "float")]
_COUNTERS = [name for name in _COUNTERS if name not in _GAUGES]


@dataclass(slots=True)
class Counters:
    """The running figures of one pool. Whoever changes them holds the pool's lock."""

    returns: int = 0
    # Of those only who had to wait: the others are most, and took next to nothing.
    waits: Durations = field(default_factory=Durations)
    held: Durations = field(default_factory=Durations)
    # Yet to be added to `held`: so it costs each borrower less.
    held_lately: list[float] = field(default_factory=list)
    worked_total: float = 0.0
    exhausted: int = 0
    reclaimed: int = 0
    pinned: int = 0
    dead: int = 0

    def add_held_lately(self) -> None:
        """Add to `held` what is yet to be added."""
        lately, self.held_lately = self.held_lately, []
        for seconds in lately:
            self.held.add(seconds)
