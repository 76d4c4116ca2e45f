"""Writes each outcome as a line of JSON, as soon as Django's runner knows it.

Runs inside Django's tests. Processes that run tests in parallel report theirs to the first
one, whose result class this is.
"""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner

# Not there where a test imports this in a worker process, in an environment that it has emptied.
FILE = Path(os.environ.get("DJANGO_SUITE_OUTCOMES", os.devnull))
DETAIL = 6000  # characters at most


def _write(**line: Any) -> None:
    with FILE.open("a") as file:
        file.write(json.dumps(line) + "\n")


class RecordingResult(unittest.TextTestResult):
    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._record(test, "passed")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._record(test, "passed")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._record(test, "skipped", reason)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._record(test, "failed", self._text(err, test))

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._record(test, "failed", self._text(err, test))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._record(test, "failed", f"{subtest}\n{self._text(err, test)}")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._record(test, "failed", "It passes, which Django doesn't expect.")

    def _text(self, err: Any, test: Any) -> str:
        text: str = super()._exc_info_to_string(err, test)  # type: ignore[misc]
        return text

    @staticmethod
    def _record(test: Any, outcome: str, detail: str = "") -> None:
        # Of a subtest that is skipped, the test.
        test = getattr(test, "test_case", test)
        _write(id=test.id(), outcome=outcome, detail=detail[-DETAIL:])


class RecordingRunner(DiscoverRunner):
    """Django's runner; the first one in a run records."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Some of Django's tests are about runners, and make one.
        self._records = not FILE.exists()
        FILE.touch()

    def get_resultclass(self) -> Any:
        return RecordingResult if self._records else super().get_resultclass()

    def run_tests(self, *args: Any, **kwargs: Any) -> Any:
        failures = super().run_tests(*args, **kwargs)
        if self._records:
            # Not before the databases are gone: what goes wrong with that is an exception.
            _write(end=True)
        return failures
