"""Tests testproject/demo.py: the whole of it, short, and its end by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from testproject.ports import is_free
from tests.support.processes import ROOT


def start_demo(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "testproject.demo", *args],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_whole_demo() -> None:
    demo = start_demo("--seconds=1", "--workers=2", "--threads=2")
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, out
    assert len(re.findall(r"^default +\d+ gunicorn ", out, re.MULTILINE)) >= 2, out
    assert re.search(r"^Connections on server: +[1-9]\d* of 100 possible", out, re.MULTILINE), out
    assert re.search(r"^Errors: +0$", out, re.MULTILINE), out


def test_ctrl_c_stops_the_site() -> None:
    with start_demo("--serve", "--workers=1") as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        port = next(int(m[1]) for line in lines if (m := re.search(r":(\d+)/$", line)))
        while "Ctrl-C" not in next(lines):
            pass
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        assert demo.wait(30) == 0, rest
        assert is_free(port)
