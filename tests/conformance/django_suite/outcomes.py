"""The outcomes of a run of Django's tests; knows no engine and no verdict."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]

# The last one counts, should a test have several: in its subtests, or when it is torn down.
_WEIGHT: dict[Outcome, int] = {"skipped": 0, "passed": 1, "failed": 2}

# What unittest says in place of a test's name when it can't load it, or set up its class.
_NOT_LOADED = "unittest.loader._FailedTest."
_SET_UP = re.compile(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)")


@dataclass
class Outcomes:
    """Of one run: each test's outcome by its name, and for those that failed why."""

    of: dict[str, Outcome] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add(self, test: str, outcome: Outcome, detail: str = "") -> None:
        before = self.of.get(test, outcome)
        self.of[test] = max(before, outcome, key=_WEIGHT.__getitem__)
        if outcome == "failed":
            # The first is the cause more often than what follows from it.
            self.details.setdefault(test, detail)

    def failed(self) -> set[str]:
        return {test for test, outcome in self.of.items() if outcome == "failed"}

    def count(self) -> Counter[Outcome]:
        return Counter(self.of.values())


def read(file: Path) -> tuple[Outcomes, bool]:
    """Return what was written to `file`, and whether the run came to its end."""
    outcomes, ended = Outcomes(), False
    for line in file.read_text().splitlines() if file.exists() else []:
        entry = json.loads(line)
        if entry.get("end"):
            ended = True
        else:
            outcomes.add(entry["id"], entry["outcome"], entry["detail"])
    return outcomes, ended


def label(test: str) -> str:
    """Return what to ask `runtests.py` for to run a test again, in the company of its class.

    Tests of a class may depend on each other, and Django never tears a class apart.
    """
    if match := _SET_UP.fullmatch(test):
        return match[1]
    if test.startswith(_NOT_LOADED):
        return test.removeprefix(_NOT_LOADED)
    return test.rpartition(".")[0]


def app(test: str) -> str:
    """Return the folder of Django's tests that a test is in."""
    return label(test).partition(".")[0]
