"""Runs tests with Django's runner in a process of its own: starts, watches and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.django_suite import outcomes
from tests.conformance.django_suite.outcomes import Outcomes

# Seconds without a word from any test. Those of a class report together, at its end.
PATIENCE = 300


class RunFailed(Exception):
    """The tests didn't come to their end, so that what they said can't be trusted."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tests that Django's runner runs, with settings that make it a `RecordingRunner`."""

    command: Sequence[str]  # what to run goes last
    folder: Path  # where the command runs
    path: Sequence[Path]  # from where tests import
    work: Path  # where outcomes and logs go
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, name: str, databases: dict[str, Any], labels: Sequence[str]) -> Outcomes:
        """Run what `labels` say; raises `RunFailed`. `name` is that of the log."""
        log, written = self.work / f"{name}.log", self.work / f"{name}.jsonl"
        written.unlink(missing_ok=True)
        print(f"Running; {log}", flush=True)
        env = {
            **os.environ,
            **self.environment,
            "PYTHONPATH": os.pathsep.join(map(str, self.path)),
            "DJANGO_SUITE_DATABASES": json.dumps(databases),
            "DJANGO_SUITE_OUTCOMES": str(written),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *self.command, *labels],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                in_time = _watch(process, [log, written])
            finally:
                _kill(process)
        if not in_time:
            raise RunFailed(
                f"No test was heard of for {PATIENCE} s. Where its processes were:\n{_tail(log)}"
            )
        found, ended = outcomes.read(written)
        if not ended or process.returncode != bool(found.failed()):
            raise RunFailed(f"It exited with {process.returncode}.\n{_tail(log)}")
        return found


def _watch(process: subprocess.Popen[bytes], files: Sequence[Path]) -> bool:
    """Wait for the end of the process; tell whether it came, or at least went on."""
    sizes: list[int] = []
    heard = time.monotonic()
    while True:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
        else:
            return True
        now = [file.stat().st_size for file in files if file.exists()]
        if now != sizes:
            sizes, heard = now, time.monotonic()
        elif time.monotonic() - heard > PATIENCE:
            os.killpg(process.pid, signal.SIGUSR1)  # see settings.py
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # time to write it down
            return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Its process group: whatever it started goes with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path, lines: int = 150) -> str:
    # Lines of dots may be long.
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([*(line[-2000:] for line in last), f"All of it is in {log}"])
