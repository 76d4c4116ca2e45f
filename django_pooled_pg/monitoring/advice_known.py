"""Collects what the rules of advice know about one alias, and how they put it; judges nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from .figures import Pool, percentile
from .server import ServerSide

# With fewer borrows or returns than this, shares and percentiles mean little.
ENOUGH = 100
# The least share of the time held that statements take if holding connections is worthwhile.
_WORKS_ENOUGH = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one alias, which has at least one pool; `sum` is the total of its pools."""

    pools: list[Pool]
    sum: Pool
    holders: list[dict[str, Any]]
    server: ServerSide | None
    # Whether MIDDLEWARE has the class that stops requests whose clients have gone.
    cancels_abandoned: bool = True

    @property
    def most(self) -> int:
        """The most connections that these pools may have."""
        budget, most = int(self.sum["budget"]), int(self.sum["max_size"])
        return min(budget, most) if budget else most

    @property
    def has_spent_budget(self) -> bool:
        """Whether there is a budget and all its slots are taken."""
        return bool(0 < self.sum["budget"] <= self.sum["slots"])

    @property
    def made(self) -> int:
        """How many sessions were opened."""
        return int(self.sum["connects"] - self.sum["connect_errors"])

    @property
    def means(self) -> tuple[float, float]:
        """For how many seconds, on average, connections were held, and statements took of that."""
        returns = self.sum["returns"]
        return self.sum["held"]["total"] / returns, self.sum["worked_total"] / returns

    @property
    def barely_worked(self) -> bool:
        """Whether connections are held mostly without running statements."""
        if self.sum["returns"] < ENOUGH:
            return False
        held, worked = self.means
        return worked < _WORKS_ENOUGH * held

    def p95(self, of: str) -> float:
        """The 95th percentile of `"wait"` or `"held"`, in seconds; 0 if nothing was measured."""
        return percentile(self.sum[of], 0.95) or 0.0


def count(number: int, thing: str) -> str:
    """Write a number with its noun: `"1 pool"`, `"2 pools"`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def product(known: Known) -> str:
    """Say how the most is reached: `"2 pools x 10"`, or `"a budget of 15"`."""
    if known.most < known.sum["max_size"]:
        return f"a budget of {known.most}"
    sizes = Counter(pool["max_size"] for pool in known.pools)
    return " + ".join(f"{count(n, 'pool')} x {size}" for size, n in sizes.items())
