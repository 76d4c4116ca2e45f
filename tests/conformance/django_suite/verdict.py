"""Gives the verdict: no failure that Django's own engine without a pool does not have.

Pure: it takes outcomes, and runs nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.django_suite.outcomes import Outcomes, app


@dataclass(frozen=True)
class Known:
    """A test that fails with our engine and is right to."""

    id: str
    django: tuple[str, ...]
    reason: str


def read_known(file: Path) -> list[Known]:
    entries = tomllib.loads(file.read_text())["test"]
    return [Known(each["id"], tuple(each["django"]), each["reason"]) for each in entries]


def known_in(version: str, known: Iterable[Known]) -> dict[str, str]:
    """Return the reasons by test for a version of Django such as 5.2.19 or 6.1rc1."""
    return {
        each.id: each.reason
        for each in known
        if any(
            version.startswith(series) and not version[len(series) :][:1].isdigit()
            for series in each.django
        )
    }


@dataclass
class Verdict:
    errors: dict[str, str] = field(default_factory=dict)
    excused: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    skipped: int = 0


def judge(
    ours: Outcomes,
    stock: Sequence[Outcomes],
    again: Outcomes | None,
    known: dict[str, str],
    labels: Iterable[str],
) -> Verdict:
    """Judge a run.

    `ours`: of the run. `stock`: of those that failed, run again with Django's own engine.
    `again`: of those that didn't fail there, run again with ours. `labels`: what was run.
    """
    count = ours.count()
    verdict = Verdict(passed=count["passed"], skipped=count["skipped"])
    for test in sorted(ours.failed()):
        failed = sum(test in run.failed() for run in stock)
        if test in known:
            verdict.excused[test] = f"known: {known[test]}"
        elif failed == len(stock) > 0:
            verdict.excused[test] = "fails with Django's own engine, too"
        elif failed:
            verdict.excused[test] = (
                f"fails with Django's own engine, too, in {failed} of {len(stock)} runs"
            )
        else:
            passed = again is not None and again.of.get(test) == "passed"
            how = "It passed when it was run again. " if passed else ""
            verdict.errors[test] = how + ours.details[test]
    whole = set(labels)
    for test in known:
        if test not in ours.failed() and (test in ours.of or app(test) in whole):
            outcome = ours.of.get(test, "not run")
            verdict.errors[test] = f"Listed in known.toml as failing, but it is {outcome}."
    return verdict
