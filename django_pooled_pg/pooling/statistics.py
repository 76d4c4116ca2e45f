"""Owns the figures of one pool: the counters it keeps and the snapshot it hands out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """One pool at one moment. Times are in seconds.

    Gauges (`size`, `in_use`, `idle`, `waiting`) are of this moment and need not add up:
    a connection that is being made or cleaned counts in none of them but `size`.
    Counters run from the start of the process.
    """

    alias: str
    name: str
    pool_class: str
    min_size: int
    max_size: int
    size: int
    in_use: int
    idle: int
    waiting: int
    borrows: int
    returns: int
    wait_total: float
    wait_max: float
    held_total: float
    held_max: float
    exhausted: int
    reclaimed: int
    pinned: int
    dead: int
    resets: int
    connects: int
    connect_errors: int


@dataclass(slots=True)
class Counters:
    """The running figures of one pool, by their names in `PoolStatistics`.

    Whoever changes them holds the pool's lock.
    """

    borrows: int = 0
    returns: int = 0
    wait_total: float = 0.0
    wait_max: float = 0.0
    held_total: float = 0.0
    held_max: float = 0.0
    exhausted: int = 0
    reclaimed: int = 0
    pinned: int = 0
    dead: int = 0

    def waited(self, seconds: float) -> None:
        self.wait_total += seconds
        if seconds > self.wait_max:
            self.wait_max = seconds
