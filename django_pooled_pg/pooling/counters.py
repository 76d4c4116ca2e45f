"""Keeps the running figures of one pool: counts, and how long things took."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""The upper bounds of a histogram's buckets, in seconds; one more bucket takes the rest."""


def empty_buckets() -> list[int]:
    """Return an empty histogram: a count for each bucket of `BOUNDS`."""
    return [0] * (len(BOUNDS) + 1)


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket that a duration belongs in."""
    return bisect_left(BOUNDS, seconds)


@dataclass(slots=True)
class Durations:
    """How long something took, each time, in seconds; `buckets` follow `BOUNDS`.

    Callers of `add` hold a lock.
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


class Counters:
    """The running figures of one pool. Whoever changes them holds the pool's lock."""

    # A plain class, because each start needs it: a dataclass takes some tenths of a millisecond.
    __slots__ = (
        *("dead", "exhausted", "held", "held_lately", "pinned", "reclaimed"),
        *("returns", "waits", "worked_total"),
    )

    def __init__(self) -> None:
        self.returns = 0
        # Only those who had to wait: most borrowers don't, and take next to no time.
        self.waits = Durations()
        self.held = Durations()
        # Not yet added to `held`, which makes each return cheaper.
        self.held_lately: list[float] = []
        self.worked_total = 0.0
        self.exhausted = self.reclaimed = self.pinned = self.dead = 0

    def add_held_lately(self) -> None:
        """Add to `held` what is pending."""
        lately, self.held_lately = self.held_lately, []
        for seconds in lately:
            self.held.add(seconds)
