"""What this project wants to reach, and whether a run's figures say that it did."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .asynchronous import AIO, BETWEEN, VPG
from .contestants import DJANGO, DJANGO_CHECKED, OURS, OURS_TRANSACTION, PERSISTENT, PREWARMED
from .figures import Case, median, ratio
from .plan import ONE_QUERY, ORM_CASE, TEN_QUERIES, THREADS


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and its result. `figure` is `None` if it wasn't measured."""

    target: str
    figure: float | None
    comparison: Literal["<=", ">="]
    limit: float

    @property
    def met(self) -> bool | None:
        compare: Callable[[float, float], bool]
        compare = operator.le if self.comparison == "<=" else operator.ge
        return None if self.figure is None else compare(self.figure, self.limit)

    def __str__(self) -> str:
        word = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        figure = "" if self.figure is None else f"{self.figure:.2f} "
        sign = {"<=": "at most", ">=": "at least"}[self.comparison]
        return f"{word}: {self.target}: {figure}({sign} {self.limit:g})"


def verdicts(cases: Iterable[Case]) -> Iterator[Verdict]:
    """Compare this project's figures with its targets; ratios are medians of ratios by round."""
    found = {(case.measure, case.name): case for case in cases}

    def case_of(measure: str, name: str) -> Case:
        # These measures have a single case, whose name describes it.
        if not name:
            name = next((key[1] for key in found if key[0] == measure), "")
        return found.get((measure, name)) or Case(measure, name, (), "")

    def times(measure: str, name: str, key: str, of: str, to: str) -> float | None:
        spread = ratio(case_of(measure, name), key, of, to)
        return None if spread is None else spread.median

    def figure(measure: str, name: str, of: str, key: str) -> float | None:
        return median(case_of(measure, name), of, key)

    ours, transaction = OURS.key, OURS_TRANSACTION.key
    for what, key, limit in (
        ("CPU time", "cpu_us", 1.05),
        ("instructions", "instructions_k", 0.97),
    ):

        def cost(name: str, of: str, to: str, key: str = key) -> float | None:
            by_kernel = times("request", name, key, of, to)
            return by_kernel or times("instructions", name, key, of, to)

        for who, of in (("", ours), (", return_at=transaction", transaction)):
            start = f"one small request{who}, {what}, relative to"
            yield Verdict(
                f"{start} CONN_MAX_AGE=None", cost(ONE_QUERY, of, PERSISTENT.key), "<=", limit
            )
            yield Verdict(
                f"{start} Django's pool with health checks",
                cost(ONE_QUERY, of, DJANGO_CHECKED.key), "<=", 0.75,
            )  # fmt: skip
        yield Verdict(
            f"ten queries, return_at=transaction, {what}, relative to CONN_MAX_AGE=None",
            cost(TEN_QUERIES, transaction, PERSISTENT.key), "<=", limit,
        )  # fmt: skip
    yield Verdict(
        "one object by the ORM, CPU time, relative to CONN_MAX_AGE=None",
        times("request", ORM_CASE, "cpu_us", ours, PERSISTENT.key), "<=", 1.0,
    )  # fmt: skip
    for who, of in (("", ours), (", return_at=transaction", transaction)):
        start = f"{THREADS}{who}"
        yield Verdict(
            f"{start}: throughput relative to Django's pool",
            times("throughput", THREADS, "rate", of, DJANGO.key), ">=", 1.2,
        )  # fmt: skip
        yield Verdict(
            f"{start}: p99 of the wait relative to Django's pool",
            times("throughput", THREADS, "wait_p99_ms", of, DJANGO.key), "<=", 1.0,
        )  # fmt: skip
        yield Verdict(
            f"{start}: turns of the busiest thread relative to the idlest",
            figure("throughput", THREADS, of, "fairness"), "<=", 1.5,
        )  # fmt: skip
    yield Verdict(
        "prewarmed: the first request relative to the tenth",
        figure("first", "", PREWARMED.key, "first_to_tenth"), "<=", 1.0,
    )  # fmt: skip
    start = "slow calls, return_at=transaction"
    yield Verdict(
        f"{start}: requests/s relative to Django's pool",
        times("slow", "", "rate", transaction, DJANGO.key), ">=", 5.5,
    )  # fmt: skip
    yield Verdict(f"{start}: p95 in ms", figure("slow", "", transaction, "p95_ms"), "<=", 70)
    yield Verdict(f"{start}: errors", figure("slow", "", transaction, "errors"), "<=", 0)
    start = "clients that leave"
    yield Verdict(
        f"{start}: % of others' pages answered within 1 s",
        figure("abandoned", "", ours, "answered"), ">=", 95,
    )  # fmt: skip
    yield Verdict(
        f"{start}: seconds until all sessions are idle",
        figure("abandoned", "", ours, "idle_s"), "<=", 1,
    )  # fmt: skip
    start = "async, 200 clients, aio.connection()"
    for what, key, limit in (
        ("return_at=transaction", OURS_TRANSACTION.key, 1.15),
        ("django-vpg", VPG.key, 0.9),
    ):
        yield Verdict(
            f"{start}: requests/s relative to {what}",
            times("async", BETWEEN, "rate", AIO.key, key), ">=", limit,
        )  # fmt: skip
