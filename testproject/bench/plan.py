"""What all measures are told, the figures they share, and how their contestants start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from .children import Child, ChildError
from .contestants import EVERYBODY, Contestant, of_tree
from .figures import Figure, Outcome
from .servers import Servers

CPU = Figure("cpu_us", "CPU us", ratio=True)
WALL = Figure("wall_us", "wall us", ratio=True)
INSTRUCTIONS = Figure("instructions_k", "thousand instructions", ratio=True)
RATE = Figure("rate", "requests/s", 0, ratio=True)
NEEDED = Figure("connections", "connections", 0)

# The cases that targets name.
ONE_QUERY, TEN_QUERIES, ORM_CASE = "one query", "ten queries", "ORM"
THREADS = "64 threads on 8 connections"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measures are told: where, how often, how long, who."""

    servers: Servers
    rounds: int
    # Multiplies the seconds of each turn.
    scale: float
    # Other versions of this project's package: names and folders.
    trees: tuple[tuple[str, str], ...]
    # A folder with the package to measure; empty: this project's own.
    package: str
    # Keys; empty: everybody.
    only: frozenset[str]
    say: Callable[[str], None]

    def contestants(self, of: Sequence[Contestant] = EVERYBODY) -> list[Contestant]:
        keys = {contestant.key for contestant in of}
        others = [other for tree in self.trees for other in of_tree(*tree)]
        everybody = [replace(each, tree=self.package) if each.app else each for each in of]
        everybody += [other for other in others if other.key.split("@")[0] in keys]
        return [e for e in everybody if not self.only or e.key.split("@")[0] in self.only]

    def few(self) -> int:
        """Return the number of rounds for a measure whose turns are long."""
        return max(1, self.rounds // 6)

    @contextmanager
    def children(
        self, contestants: Sequence[Contestant], size: int
    ) -> Iterator[tuple[dict[str, Child], dict[str, Outcome]]]:
        """Start contestants; if one can't take part, its outcome says why."""
        outcomes = {each.key: Outcome() for each in contestants}

        def start(contestant: Contestant) -> Child | None:
            try:
                return Child(contestant, self.servers.main, size)
            except ChildError as ex:
                outcomes[contestant.key].error = str(ex)
                return None

        with ExitStack() as stack:
            with ThreadPoolExecutor(os.cpu_count()) as executor:
                started = list(executor.map(start, contestants))
            children = {}
            for contestant, child in zip(contestants, started, strict=True):
                if child is not None:
                    stack.callback(child.close)
                    children[contestant.key] = child
            yield children, outcomes
