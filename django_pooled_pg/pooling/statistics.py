"""What one pool reports of itself at one moment."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from .counters import Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """One pool at one moment. Times are in seconds.

    Gauges (`size`, `in_use`, `idle`, `waiting`) are of this moment and need not add up:
    a connection that is being opened or reset counts only in `size`.
    `budget` is that of all processes, 0 if there is none; `slots` are those of it that this pool
    has, `slots_wanted` those that it lacks, `slots_given` the connections it gave up to others.
    Counters run from the start of the process.

    - `wait`: from a borrow's start to its connection;
    - `held`: from there to the return;
    - `worked_total`: the part of the time held that statements took;
    - `abandoned_waiting`, `abandoned_working`: pieces of work that were stopped because their
      client had gone, while they waited for a connection or later;
    - `deadlines`: those that were stopped because their deadline had passed;
    - `connect`: opening a server session, without failed attempts.
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
    abandoned_waiting: int
    abandoned_working: int
    deadlines: int
    reclaimed: int
    pinned: int
    dead: int
    resets: int
    connects: int
    connect_errors: int
    connect: Durations

    def of_the_past(self) -> PoolStatistics:
        """Return what remains to be reported of a pool that is gone: its counters."""
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
        """Return the same with another's counters added or, with `sign` -1, subtracted."""
        changed: dict[str, Any] = {
            name: getattr(self, name) + sign * getattr(other, name) for name in COUNTERS
        }
        for name in DURATIONS:
            changed[name] = getattr(self, name).plus(getattr(other, name), sign)
        return replace(self, **changed)


DURATIONS = ("wait", "held", "connect")
GAUGES = (
    *("min_size", "max_size", "timeout", "size", "in_use", "idle", "waiting"),
    *("budget", "slots", "slots_wanted"),
)
"""The numbers that are of the moment; all others run from the start of the process."""
_NUMBERS = [f.name for f in fields(PoolStatistics) if f.type in ("int", "float")]
COUNTERS = tuple(name for name in _NUMBERS if name not in GAUGES)
