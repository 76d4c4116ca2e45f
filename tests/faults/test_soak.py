"""The soak, for as long as a test may take; `python -m tests.soak --seconds 600` goes on longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.processes import ROOT, environment

SECONDS = 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("of", [["--threads=32", "--tasks=20"], ["--budget"]], ids=" ".join)
def test_accounts_are_exact_after_a_soak(of: list[str]) -> None:
    command = [sys.executable, "-m", "tests.soak", f"--seconds={SECONDS}", *of]
    soak = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        out, _ = soak.communicate(timeout=SECONDS + 200)
    except subprocess.TimeoutExpired:
        os.killpg(soak.pid, signal.SIGABRT)  # with its children: they hold the pipe, too
        out, _ = soak.communicate()
    print(out)  # for the seed
    assert soak.returncode == 0, out
