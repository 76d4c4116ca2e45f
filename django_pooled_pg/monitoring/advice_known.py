"""Owns what the rules of advice know of one alias, and how they put it; judges nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from .figures import Pool, percentile
from .server import ServerSide

# Below this many borrows, or returns, shares and percentiles say little.
ENOUGH = 100
# Of the time held, what the database works, if connections are held for its sake.
_WORKS_ENOUGH = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one alias, which has a pool at least; `sum` is of all its pools."""

    pools: list[Pool]
    sum: Pool
    holders: list[dict[str, Any]]
    server: ServerSide | None
    # Whether MIDDLEWARE has what stops the requests of clients that have gone.
    cancels_abandoned: bool = True

    @property
    def most(self) -> int:
        """How many connections they may have at the most."""
        budget, most = int(self.sum["budget"]), int(self.sum["max_size"])
        return min(budget, most) if budget else most

    @property
    def has_spent_budget(self) -> bool:
        """Whether there is a budget, and all slots of it are taken."""
        return bool(0 < self.sum["budget"] <= self.sum["slots"])

    @property
    def made(self) -> int:
        """Sessions that were made."""
        return int(self.sum["connects"] - self.sum["connect_errors"])

    @property
    def means(self) -> tuple[float, float]:
        """For how many seconds connections were held, and the database worked, on average."""
        returns = self.sum["returns"]
        return self.sum["held"]["total"] / returns, self.sum["worked_total"] / returns

    @property
    def barely_worked(self) -> bool:
        """Whether connections are held for little work of the database."""
        if self.sum["returns"] < ENOUGH:
            return False
        held, worked = self.means
        return worked < _WORKS_ENOUGH * held

    def p95(self, of: str) -> float:
        """The 95th percentile of `"wait"` or `"held"`, in seconds; 0 where nothing was measured."""
        return percentile(self.sum[of], 0.95) or 0.0


def count(number: int, thing: str) -> str:
    """Say how many: `"1 pool"`, `"2 pools"`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def product(known: Known) -> str:
    """Say of how many pools of which size the most is: `"2 pools x 10"`, or of which budget."""
    if known.most < known.sum["max_size"]:
        return f"a budget of {known.most}"
    sizes = Counter(pool["max_size"] for pool in known.pools)
    return " + ".join(f"{count(n, 'pool')} x {size}" for size, n in sizes.items())
