"""Owns what is known of one alias, for those who judge it; judges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .figures import Pool, percentile
from .server import ServerSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one alias, which has a pool at least; `sum` is of all its pools."""

    pools: list[Pool]
    sum: Pool
    holders: list[dict[str, Any]]
    server: ServerSide | None

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

    def p95(self, of: str) -> float:
        """The 95th percentile of `"wait"` or `"held"`, in seconds; 0 where nothing was measured."""
        return percentile(self.sum[of], 0.95) or 0.0
