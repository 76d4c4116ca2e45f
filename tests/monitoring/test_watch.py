from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys

import pytest

from django_pooled_pg.monitoring import watch
from django_pooled_pg.monitoring.report import ProcessReport
from tests.monitoring.made_up import pool, report, silent
from tests.support.processes import environment


def pools(reports: list[ProcessReport]) -> list[int]:
    return [p["borrows"] for r in reports if r.snapshot is not None for p in r.snapshot["pools"]]


def test_between_is_the_difference_pool_by_pool() -> None:
    before = [report(1, pool("a", borrows=5), pool("b", borrows=7)), report(2, pool(borrows=1))]
    now = [report(1, pool("b", borrows=10), pool("a", borrows=6)), report(2, pool(borrows=1))]
    changed = watch.between(before, now)
    assert pools(changed) == [3, 1, 0]
    assert pools(now) == [10, 6, 1]  # as they were


def test_between_with_a_process_that_is_new() -> None:
    again = report(1, pool(borrows=9))
    assert again.snapshot is not None
    again.snapshot["started"] += 60  # another one, with the same id
    now = [again, report(3, pool(borrows=4)), silent(5)]
    changed = watch.between([report(1, pool(borrows=5))], now)
    assert pools(changed) == [9, 4]
    assert changed[2] == silent(5)


def test_between_with_pools_of_the_same_name() -> None:
    before = [report(1, pool(borrows=5), pool(borrows=50))]
    now = [report(1, pool(borrows=6), pool(borrows=70))]
    assert pools(watch.between(before, now)) == [1, 20]


def test_between_keeps_the_holders() -> None:
    holder = {"alias": "default", "held": 3.0}
    changed = watch.between([report(1, pool())], [report(1, pool(), holders=[holder])])
    assert changed[0].snapshot is not None
    assert changed[0].snapshot["holders"] == [holder]


SCRIPT = """
import sys
from itertools import count
from django_pooled_pg.monitoring import watch
numbers = count(1)
watch.watch(lambda: f"look {next(numbers)}", sys.stdout, 0.01)
print("after", flush=True)
"""


def read_until(fd: int, text: bytes) -> bytes:
    read = b""
    while text not in read:
        try:
            more = os.read(fd, 4096)
        except OSError:  # what Linux says when the last one who has the terminal is gone
            more = b""
        assert more, read
        read += more
    return read


def test_without_a_terminal_one_comes_after_the_other_until_ctrl_c() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert read_until(process.stdout.fileno(), b"look 3\n").startswith(b"look 1\n\nlook 2\n\n")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert (process.wait(10), process.stderr.read()) == (0, b"")
    assert rest.endswith(b"after\n")


def test_on_a_terminal_the_last_look_stays() -> None:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=environment(TERM="xterm", COLUMNS="80", LINES="24"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown = read_until(ours, b"look 3")
            process.send_signal(signal.SIGINT)
            rest = read_until(ours, b"after")
            assert process.wait(10) == 0
    finally:
        os.close(ours)
    assert b"Traceback" not in shown + rest
    home = shown.index(b"\x1b[H", shown.index(b"look 1"))
    assert shown.index(b"look 2") > home  # drawn over the one before
    assert b"\x1b[?1049h" not in shown  # the other screen of the terminal, where nothing stays


def test_nobody_reads_any_more() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        watch.watch(lambda: "look", Gone(), 0.01)


def test_an_error_of_the_look_gets_out() -> None:
    def look() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        watch.watch(look, io.StringIO(), 0.01)
