"""Decides which runs a verdict needs: failures run again, and with Django's own engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.conformance.django_suite.outcomes import Outcomes, label
from tests.conformance.django_suite.verdict import Verdict, judge

# Runs the tests that the labels say; the name is that of the run.
Run = Callable[[str, Sequence[str]], Outcomes]

# How often a test is run with Django's own engine that fails with ours, but not always.
STOCK_RUNS = 3


def examine(run_ours: Run, run_stock: Run, labels: Sequence[str], known: dict[str, str]) -> Verdict:
    stock: list[Outcomes] = []

    def not_failing_with_stock(tests: set[str]) -> set[str]:
        if tests:
            stock.append(run_stock(f"stock-{len(stock) + 1}", _labels_of(tests)))
        return tests - {test for run in stock for test in run.failed()}

    ours = run_ours("ours", labels)
    again = None
    if suspects := not_failing_with_stock(ours.failed() - known.keys()):
        again = run_ours("ours-again", _labels_of(suspects))
        flaky = suspects - again.failed()
        while flaky and len(stock) < STOCK_RUNS:
            flaky = not_failing_with_stock(flaky)
    return judge(ours, stock, again, known, labels)


def _labels_of(tests: set[str]) -> list[str]:
    return sorted({label(test) for test in tests})
