"""Measures instructions, which are the same however busy the machine is.

Where the kernel counts them, the other measures already include them. Elsewhere valgrind counts,
if it is installed. It counts a whole process, so a request's instructions are the difference
between a process that did many requests and one that did few.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from .children import Child, ChildError
from .contestants import (
    DJANGO,
    DJANGO_CHECKED,
    EVERYBODY,
    OURS,
    OURS_TRANSACTION,
    PERSISTENT,
    Contestant,
)
from .figures import Case, Outcome
from .instructions import Counter
from .plan import INSTRUCTIONS, ONE_QUERY, TEN_QUERIES, Bench

VALGRIND = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
SOME = (PERSISTENT, DJANGO, DJANGO_CHECKED, OURS, OURS_TRANSACTION)
WARM_UP = 50


def instructions(bench: Bench) -> Iterator[Case]:
    """instructions of one small request"""
    cases = [Case("instructions", name, (INSTRUCTIONS,), PERSISTENT.key) for name in
             (ONE_QUERY, TEN_QUERIES)]  # fmt: skip
    valgrind = shutil.which("valgrind")
    if Counter().read() is not None:
        cases[0].note = "They are counted by the kernel: see the other measures."
        yield cases[0]
        return
    if valgrind is None:
        cases[0].note = "They can't be counted here: neither the kernel nor valgrind does it."
        yield cases[0]
        return
    # Only some, unless others are asked for: a process takes ten times as long.
    contestants = bench.contestants(EVERYBODY if bench.only else SOME)
    many = max(20, int(300 * bench.scale))
    bench.say(f"instructions: {', '.join(each.key for each in contestants)}")

    def count(contestant: Contestant) -> tuple[Outcome, Outcome]:
        one, ten = Outcome(), Outcome()
        try:
            few = _of_process(bench, valgrind, contestant, 0, 0)
            more = _of_process(bench, valgrind, contestant, many, 0)
            most = _of_process(bench, valgrind, contestant, 0, many // 5)
            one.add({INSTRUCTIONS.key: (more - few) / many / 1000})
            ten.add({INSTRUCTIONS.key: (most - few) / (many // 5) / 1000})
        except ChildError as ex:
            one.error = ten.error = str(ex)
        return one, ten

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        counted = list(executor.map(count, contestants))
    for number, case in enumerate(cases):
        for contestant, outcomes in zip(contestants, counted, strict=True):
            case.outcomes[contestant.key] = outcomes[number]
        yield case


def _of_process(bench: Bench, valgrind: str, contestant: Contestant, ones: int, tens: int) -> int:
    """Return the instructions of a process that did that many requests after its warm-up."""
    child = Child(
        contestant, bench.servers.main, 4, wrapper=(valgrind, *VALGRIND), stderr=subprocess.PIPE
    )
    try:
        child.ask("requests", queries=1, count=WARM_UP)
        child.ask("requests", queries=10, count=WARM_UP // 5)
        for queries, count in ((1, ones), (10, tens)):
            if count:
                child.ask("requests", queries=queries, count=count)
    finally:
        child.close()
    said = child.stderr.read() if child.stderr is not None else ""
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    if found is None:
        raise ChildError("valgrind says no number of instructions")
    return int(found[1].replace(",", ""))
