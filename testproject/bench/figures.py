"""The arithmetic of figures: medians, quartiles, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """A kind of figure: its key in the JSON, its heading with the unit, and its format."""

    key: str
    label: str
    digits: int = 1
    # Whether the table also shows it as a multiple of the reference's.
    ratio: bool = False


@dataclass(slots=True)
class Outcome:
    """One contestant's results in one case: each figure's values by round, or why none."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""

    def add(self, figures: dict[str, float]) -> None:
        for key, value in figures.items():
            self.rounds.setdefault(key, []).append(value)


@dataclass(slots=True)
class Case:
    """One comparison: all contestants do the same work, in turns."""

    measure: str
    name: str
    figures: tuple[Figure, ...]
    # The contestant that ratios refer to.
    reference: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    # What can't be measured here, and why.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values, and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), low, high)


def values(case: Case, contestant: str, key: str) -> list[float]:
    outcome = case.outcomes.get(contestant)
    return [] if outcome is None or outcome.error else outcome.rounds.get(key, [])


def median(case: Case, contestant: str, key: str) -> float | None:
    found = values(case, contestant, key)
    return statistics.median(found) if found else None


def ratio(case: Case, key: str, of: str, to: str) -> Spread | None:
    """Return the spread of one contestant's figure as a multiple of another's, round by round.

    What slows the machine down for a while slows both, so their ratio within a round holds.
    """
    pairs = zip(values(case, of, key), values(case, to, key), strict=False)
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    return spread(ratios) if ratios else None
