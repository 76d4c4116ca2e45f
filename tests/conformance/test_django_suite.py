"""The verdict on Django's own tests, and how it gets outcomes; the tests themselves don't run.

python -m tests.conformance.django_suite
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.django_suite import running
from tests.conformance.django_suite.comparison import examine
from tests.conformance.django_suite.outcomes import Outcome, Outcomes, app, label, read
from tests.conformance.django_suite.running import RunFailed, Suite
from tests.conformance.django_suite.source import requirements
from tests.conformance.django_suite.verdict import Known, Verdict, judge, known_in
from tests.support.processes import environment

TEST, OTHER = "servers.tests.Live.test_a", "basic.tests.Save.test_b"


def outcomes(**of: Outcome) -> Outcomes:
    """Of `TEST` and `OTHER`: `outcomes(test="failed")`."""
    made = Outcomes()
    for name, outcome in of.items():
        made.add({"test": TEST, "other": OTHER}[name], outcome, "Traceback")
    return made


def verdict(
    ours: Outcomes, *stock: Outcomes, again: Outcomes | None = None, known: Any = ()
) -> Verdict:
    return judge(ours, stock, again, dict(known), ["servers", "basic"])


def test_what_passes_and_what_is_skipped_is_counted() -> None:
    found = verdict(outcomes(test="passed", other="skipped"))
    assert (found.passed, found.skipped, found.errors, found.excused) == (1, 1, {}, {})


def test_a_failure_that_the_stock_engine_has_is_no_error() -> None:
    found = verdict(outcomes(test="failed"), outcomes(test="failed"))
    assert found.errors == {}
    assert found.excused == {TEST: "fails with Django's own engine, too"}


@pytest.mark.parametrize("stock", [outcomes(test="passed"), outcomes(test="skipped"), outcomes()])
def test_a_failure_that_the_stock_engine_does_not_have_is_an_error(stock: Outcomes) -> None:
    again = outcomes(test="failed")
    assert verdict(outcomes(test="failed"), stock, again=again).errors == {TEST: "Traceback"}


def test_a_failure_that_was_not_compared_is_an_error() -> None:
    assert verdict(outcomes(test="failed")).errors.keys() == {TEST}


def test_a_test_that_fails_now_and_then_is_an_error_and_said_to_be_so() -> None:
    passed = outcomes(test="passed")
    found = verdict(outcomes(test="failed"), passed, passed, passed, again=passed)
    assert found.errors == {TEST: "It passed when it was run again. Traceback"}


def test_a_test_that_fails_now_and_then_with_the_stock_engine_too_is_no_error() -> None:
    passed, failed = outcomes(test="passed"), outcomes(test="failed")
    found = verdict(failed, passed, failed, again=passed)
    assert found.errors == {}
    assert found.excused == {TEST: "fails with Django's own engine, too, in 1 of 2 runs"}


def test_a_known_failure_is_no_error() -> None:
    found = verdict(outcomes(test="failed"), known={TEST: "Looks inside."})
    assert found.errors == {}
    assert found.excused == {TEST: "known: Looks inside."}


@pytest.mark.parametrize(
    ("ours", "outcome"),
    [
        (outcomes(test="passed"), "passed"),
        (outcomes(test="skipped"), "skipped"),
        (outcomes(other="passed"), "not run"),
    ],
)
def test_a_known_failure_that_does_not_fail_is_an_error(ours: Outcomes, outcome: str) -> None:
    errors = verdict(ours, known={TEST: "Looks inside."}).errors
    assert errors == {TEST: f"Listed in known.toml as failing, but it is {outcome}."}


def test_a_known_failure_of_what_was_not_asked_for_is_no_error() -> None:
    labels = ["servers.tests.Other", "basic"]
    assert judge(outcomes(other="passed"), [], None, {TEST: "Looks inside."}, labels).errors == {}


class Runs:
    """Answers with the outcomes it was given, one after the other; notes what it was asked."""

    def __init__(self, *outcomes: Outcomes) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, name: str, labels: Sequence[str]) -> Outcomes:
        self.asked.append((name, list(labels)))
        return self.outcomes.pop(0)


LABELS = ["servers", "basic"]


def test_what_passes_or_is_known_to_fail_is_run_once() -> None:
    ours, stock = Runs(outcomes(test="failed", other="passed")), Runs()
    assert examine(ours, stock, LABELS, {TEST: "Looks inside."}).errors == {}
    assert (ours.asked, stock.asked) == ([("ours", LABELS)], [])


def test_what_fails_is_run_with_the_stock_engine_and_if_it_passes_there_again_with_ours() -> None:
    failed = outcomes(test="failed", other="failed")
    ours, stock = Runs(failed, failed), Runs(outcomes(test="passed", other="failed"))
    assert examine(ours, stock, LABELS, {}).errors == {TEST: "Traceback"}
    assert stock.asked == [("stock-1", ["basic.tests.Save", "servers.tests.Live"])]
    assert ours.asked[1:] == [("ours-again", ["servers.tests.Live"])]


@pytest.mark.parametrize(("later", "errors", "runs"), [("passed", {TEST}, 3), ("failed", set(), 2)])
def test_what_fails_now_and_then_has_three_runs_to_fail_with_the_stock_engine(
    later: Outcome, errors: set[str], runs: int
) -> None:
    passed = outcomes(test="passed")
    ours = Runs(outcomes(test="failed"), passed)
    stock = Runs(passed, outcomes(test=later), passed)
    assert examine(ours, stock, LABELS, {}).errors.keys() == errors
    assert len(stock.asked) == runs


@pytest.mark.parametrize(
    ("version", "there"),
    [("6.1", True), ("6.1.3", True), ("6.1rc1", True), ("6.10", False), ("5.2.19", False)],
)
def test_known_failures_are_those_of_a_version(version: str, there: bool) -> None:
    known = known_in(version, [Known(TEST, ("6.0", "6.1"), "Looks inside.")])
    assert known == ({TEST: "Looks inside."} if there else {})


def test_the_worst_outcome_of_a_test_counts_and_its_first_cause() -> None:
    found = Outcomes()
    for outcome, detail in [("failed", "subtest"), ("failed", "tearDown"), ("passed", "")]:
        found.add(TEST, outcome, detail)  # type: ignore[arg-type]
    assert (found.of, found.details) == ({TEST: "failed"}, {TEST: "subtest"})


@pytest.mark.parametrize(
    ("test", "again", "of"),
    [
        (TEST, "servers.tests.Live", "servers"),
        ("setUpClass (servers.tests.Live)", "servers.tests.Live", "servers"),
        ("tearDownModule (servers.tests)", "servers.tests", "servers"),
        ("unittest.loader._FailedTest.servers.tests", "servers.tests", "servers"),
    ],
)
def test_what_to_run_again(test: str, again: str, of: str) -> None:
    assert (label(test), app(test)) == (again, of)


def test_requirements_are_picked_by_name() -> None:
    listed = "aiosmtpd\nPillow >= 6.2.1; sys.platform != 'win32'\n# tblib\ntblib>=1.5\nredis"
    picked = requirements(listed, {"tblib", "Pillow", "redis-py"})
    assert picked == ["Pillow >= 6.2.1; sys.platform != 'win32'", "tblib>=1.5"]


SAMPLE = """
import unittest
from django.test import SimpleTestCase

class Tests(SimpleTestCase):
    def test_passes(self): pass
    def test_fails(self): self.fail("so")
    def test_skipped(self): self.skipTest("why")
    def test_subtests(self):
        for number in (1, 2, 3):
            with self.subTest(number=number):
                if number == 1: self.skipTest("why")
                if number == 2: self.fail("at two")
    @unittest.expectedFailure
    def test_fails_as_expected(self): self.fail()
    @unittest.expectedFailure
    def test_passes_unexpectedly(self): pass

class NotSetUp(SimpleTestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no")
    def test_never_runs(self): pass
"""

RUN = """
import django
from django.conf import settings
settings.configure(DATABASES={})
django.setup()
from tests.conformance.django_suite.recorder import RecordingRunner
RecordingRunner(verbosity=0).run_tests(["sample"])
# What a test about runners does.
RecordingRunner(verbosity=0).run_tests(["sample.Tests.test_passes"])
"""


def test_outcomes_are_those_that_djangos_runner_saw(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE)
    file = tmp_path / "outcomes"
    env = environment(DJANGO_SUITE_OUTCOMES=str(file))
    subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, env=env, check=True, timeout=60)
    found, ended = read(file)
    assert ended
    assert found.of == {
        "sample.Tests.test_passes": "passed",
        "sample.Tests.test_fails": "failed",
        "sample.Tests.test_skipped": "skipped",
        "sample.Tests.test_subtests": "failed",
        "sample.Tests.test_fails_as_expected": "passed",
        "sample.Tests.test_passes_unexpectedly": "failed",
        "setUpClass (sample.NotSetUp)": "failed",
    }
    assert "at two" in found.details["sample.Tests.test_subtests"]
    assert file.read_text().count('test_passes"') == 1


def test_a_worker_process_may_import_the_recorder_in_an_empty_environment(tmp_path: Path) -> None:
    script = "import os; os.environ.clear()\nfrom tests.conformance.django_suite import recorder"
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, timeout=60)


PASSED = '{"id": "a.tests.T.test", "outcome": "passed", "detail": ""}'
FAILED = '{"id": "a.tests.T.test", "outcome": "failed", "detail": "so"}'
END = '{"end": true}'

# What stands in for Django's runtests.py; it says what it was told to.
RUNTESTS = """
import os, sys
said, code, hangs = {!r}, {!r}, {!r}
with open(os.environ["DJANGO_SUITE_OUTCOMES"], "w") as file:
    print(*said, sep="\\n", file=file)
print("the end of the log", flush=True)
if hangs:
    import faulthandler, signal, time
    faulthandler.register(signal.SIGUSR1, chain=True)  # and end there
    def stuck_here(): time.sleep(60)
    stuck_here()
sys.exit(code)
"""


def run(folder: Path, *said: str, code: int = 0, hangs: bool = False) -> Outcomes:
    (folder / "runtests.py").write_text(RUNTESTS.format(said, code, hangs))
    suite = Suite(command=["runtests.py"], folder=folder, path=[folder], work=folder)
    return suite.run("run", {}, ["a"])


def test_a_run_to_its_end(tmp_path: Path) -> None:
    assert run(tmp_path, FAILED, END, code=1).of == {"a.tests.T.test": "failed"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param([PASSED], 0, id="cut short"),
        pytest.param([FAILED], 1, id="cut short after a failure"),
        pytest.param([PASSED, END], 1, id="an error that is no test's"),
        pytest.param([PASSED, END], -9, id="killed at exit"),
        pytest.param([FAILED, END], 0, id="a failure unnoticed"),
    ],
)
def test_a_run_that_can_not_be_trusted(tmp_path: Path, said: list[str], code: int) -> None:
    with pytest.raises(RunFailed, match="the end of the log"):
        run(tmp_path, *said, code=code)


def test_a_run_that_hangs_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PATIENCE", 1)
    with pytest.raises(RunFailed, match="stuck_here"):
        run(tmp_path, PASSED, hangs=True)
