"""`client.py`, with what processes answer: `report.py`, `wire.py`."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from django_pooled_pg.monitoring import client, report, snapshot
from django_pooled_pg.monitoring.client import collect
from django_pooled_pg.monitoring.report import ProcessReport
from django_pooled_pg.monitoring.wire import MAX_TEXT
from django_pooled_pg.runtime_dir import RuntimeDirError
from tests.monitoring.made_up import pool, snapshot_of
from tests.monitoring.members import DATABASES, member, sockets
from tests.support.processes import start_script

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

Serve = Callable[[socket.socket, Path], None]


@contextmanager
def listening(folder: Path, name: str = "77-ab.sock") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / name))
        listener.listen()
        yield listener


@contextmanager
def impostor(folder: Path, serve: Serve) -> Iterator[None]:
    """Something that listens as process 77 and does `serve` with the first client."""
    with listening(folder) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                serve(connection, folder / "77-ab.sock")

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join()


def says(answer: bytes) -> Serve:
    return lambda connection, path: connection.sendall(answer)


def wrong_answer(folder: Path, answer: bytes) -> str:
    with impostor(folder, says(answer)):
        (report,) = collect()
    assert (report.pid, report.snapshot) == (77, None)
    assert report.error is not None
    return report.error


def pids(reports: list[ProcessReport]) -> list[int]:
    assert all(report.error is None for report in reports), reports
    return [report.pid for report in reports]


# Processes


def test_nobody_there(folder: Path) -> None:
    assert collect() == []


def test_all_live_processes_by_pid(folder: Path) -> None:
    with member(folder) as one, member(folder) as two, member(folder) as three:
        reports = collect()
        assert pids(reports) == sorted([one.pid, two.pid, three.pid])
        for report in reports:
            assert report.snapshot is not None
            assert report.snapshot["pid"] == report.pid
            assert [pool["alias"] for pool in report.snapshot["pools"]] == ["default", "other"]


def test_this_process_too(running: Path) -> None:
    assert pids(collect()) == [os.getpid()]


def test_a_killed_process_leaves_nothing(folder: Path) -> None:
    with member(folder) as dead, member(folder) as alive:
        dead.kill()
        dead.wait(timeout=10)
        assert len(sockets(folder)) == 2
        assert pids(collect()) == [alive.pid]
        (left,) = sockets(folder)
        assert left.name.startswith(f"{alive.pid}-")


def test_a_stopped_process_does_not_spoil_the_rest(folder: Path) -> None:
    with member(folder) as stopped, member(folder) as alive:
        stopped.send_signal(signal.SIGSTOP)
        started = monotonic()
        reports = {report.pid: report for report in collect(timeout=0.5)}
        assert 0.5 <= monotonic() - started < 5
        assert reports[alive.pid].snapshot is not None
        assert reports[stopped.pid] == ProcessReport(
            pid=stopped.pid, error="no answer within 0.5 s"
        )
        stopped.send_signal(signal.SIGCONT)
        assert len(pids(collect(timeout=5))) == 2


def test_many_hanging_processes_take_no_more_time_than_one(folder: Path) -> None:
    with ExitStack() as stack:
        for number in range(100):
            stack.enter_context(listening(folder, f"{number}-ab.sock"))
        started = monotonic()
        reports = collect(timeout=0.3)
        assert monotonic() - started < 10, "30 s if one after the other"
    assert [report.pid for report in reports] == list(range(100))
    assert {report.error for report in reports} == {"no answer within 0.3 s"}


def test_a_process_that_is_flooded(folder: Path) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(listening(folder))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(folder / "77-ab.sock"))
        (report,) = collect(timeout=0.3)
        assert report.error == "no answer: too many clients wait for it already"


def test_a_process_that_ends_when_it_is_asked(folder: Path) -> None:
    def end(connection: socket.socket, path: Path) -> None:
        path.unlink()

    with impostor(folder, end):
        assert collect() == []


# Answers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"hello\n", "invalid answer: Expecting value"),
        (b"\xff\n", "invalid answer: 'utf-8' codec"),
        (b"[" * 100_000 + b"\n", "invalid answer: "),
        (b"[]\n", "invalid answer: not a JSON object"),
        (b"{}\n", "invalid answer: None"),
        (b'{"ok":false,"error":"no time"}\n', "invalid answer: no time"),
        (b'{"ok":true}\n', "invalid answer: its result is not a JSON object"),
        (b'{"ok":true,"result":{"pools":7}}\n', "invalid answer: not a snapshot"),
        (b'{"ok":true,"result":{"pools":[]}}\n', "its snapshot has version None, not 1"),
        (b'{"ok":true,"result":{"pools":[],"version":1}}\n', "a snapshot without 'pid'"),
        (b"x" * 2_000_000, f"invalid answer: more than {1024 * 1024} bytes"),
        (b'{"ok":true', "closed the connection without an answer"),
        (b"", "closed the connection without an answer"),
    ],
)
def test_wrong_answers(folder: Path, answer: bytes, error: str) -> None:
    with listening(folder) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                try:
                    connection.sendall(answer)
                except ConnectionError:
                    pass  # it heard enough

        thread = threading.Thread(target=run)
        thread.start()
        (report,) = collect()
        thread.join()
    assert (report.pid, report.snapshot) == (77, None)
    assert report.error is not None
    assert error in report.error


def merged(pool: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return pool | {
        name: pool[name] | value if isinstance(value, dict) else value
        for name, value in change.items()
    }


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"wait": None}, "a pool's 'wait' is not a JSON object"),
        ({"borrows": None}, "'borrows' is not a number"),
        ({"held": {"max": "1"}}, "a pool's 'held' whose 'max' is not a number"),
        ({"alias": 1}, "'alias' is not a string"),
        ({"paused": "yes"}, "'paused' is not true or false"),
        ({"timeout": math.nan}, "'timeout' is not a number"),
        ({"wait": {"total": math.inf}}, "a pool's 'wait' whose 'total' is not a number"),
        ({"connects": 10**400}, "'connects' is not a number"),
        ({"connects": -1}, "'connects' is not a number"),
        ({"wait": {"buckets": [1]}}, "a pool's 'wait' whose 'buckets' is not a histogram"),
        ({"wait": {"buckets": [10**400] * 19}}, "'buckets' is not a histogram"),
    ],
)
def test_wrong_pools(folder: Path, running: Path, change: dict[str, Any], error: str) -> None:
    good = snapshot_of(77)

    def line() -> bytes:
        return json.dumps({"ok": True, "result": good}).encode() + b"\n"

    assert report.checked(client._read_answer(line()))["pools"] == [pool()]
    running.unlink()
    good["pools"] = [merged(pool(), change)]
    assert error in wrong_answer(folder, line())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"started": "today"}, "'started' is not a number"),
        ({"started": [1]}, "'started' is not a number"),
        ({"parent_pid": None}, "'parent_pid' is not a number"),
        ({"holders": {}}, "'holders' is not a list"),
        ({"holders": [1]}, "a holder is not a JSON object"),
        ({"holders": [{"alias": "a", "name": "a", "thread": 3}]}, "'thread' is not a string"),
    ],
)
def test_wrong_snapshots(folder: Path, change: dict[str, Any], error: str) -> None:
    answer = {"ok": True, "result": snapshot_of(77) | change}
    assert error in wrong_answer(folder, json.dumps(answer).encode() + b"\n")


def test_what_a_later_release_adds_is_left_out(folder: Path) -> None:
    answer = snapshot_of(77) | {"pools": [pool() | {"new": {}}], "later": "x"}
    with impostor(folder, says(json.dumps({"ok": True, "result": answer}).encode() + b"\n")):
        (report,) = collect()
    assert report.pools() == [pool()]
    assert report.snapshot is not None
    assert "later" not in report.snapshot


def test_texts_can_be_shown_whatever_is_in_them(folder: Path) -> None:
    held = {"alias": "a", "name": "a", "thread": "\x1b[2J\ud800", "thread_id": 1, "held": 1}
    held |= {"abandoned": False, "remaining": None}
    holder = held | {"pinned": None, "place": "x" * 100_000, "pid": 1}
    answer = snapshot_of(77) | {"process": "a\nb", "holders": [holder]}
    with impostor(folder, says(json.dumps({"ok": True, "result": answer}).encode() + b"\n")):
        (report,) = collect()
    assert report.snapshot is not None
    assert report.snapshot["process"] == r"a\nb"
    (shown,) = report.holders()
    assert (shown["pid"], shown["thread"]) == (77, r"\x1b[2J\ud800")
    assert len(shown["place"]) <= MAX_TEXT


def test_pools_of_an_older_release(folder: Path) -> None:
    answer = {"ok": True, "result": snapshot_of(77) | {"pools": [{"alias": "a"}]}}
    assert "a pool without 'name'" in wrong_answer(folder, json.dumps(answer).encode() + b"\n")


def test_an_endless_answer_is_bounded_in_time(folder: Path) -> None:
    def drip(connection: socket.socket, path: Path) -> None:
        try:
            while True:
                connection.sendall(b" ")
                time.sleep(0.01)
        except ConnectionError:
            pass

    with impostor(folder, drip):
        started = monotonic()
        (report,) = collect(timeout=0.3)
        assert monotonic() - started < 10
    assert report.error == "no answer within 0.3 s"


def test_both_sides_speak_the_same_version() -> None:
    assert report._VERSION == snapshot.VERSION


# What else is in the folder


def test_thousands_of_dead_sockets_take_no_file_descriptors(folder: Path) -> None:
    dead = folder / "77-ab.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    for number in range(1500):
        os.link(dead, folder / f"{1000 + number}-ab.sock")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        with member(folder) as alive:
            assert pids(collect(timeout=30)) == [alive.pid]
            assert len(sockets(folder)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_file_descriptors_it_says_so(
    folder: Path, running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", refused)
    (report,) = collect(timeout=5)
    monkeypatch.undo()
    assert report.error == "can't be asked: Too many open files"


@as_root
def test_another_users_process_in_our_folder_is_told_nothing(folder: Path) -> None:
    listen = """
os.setuid(65534)
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("77-ab.sock")
    listener.listen()
    print("ready", flush=True)
    listener.settimeout(20)
    asking, _ = listener.accept()
    print(asking.recv(100), flush=True)
    sys.stdin.readline()
"""
    folder.chmod(0o777)  # as if it had been swapped for a while
    script = f"os.chdir({str(folder)!r})\n{listen}"
    process = start_script(script, DATABASES)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", process.communicate(timeout=10)
        folder.chmod(0o700)
        os.chown(folder / "77-ab.sock", 0, 0)  # the look at the file is not enough
        (report,) = collect(timeout=5)
        assert report.error == "can't be asked: user 65534 listens there"
        assert process.stdout.readline() == "b''\n"
    finally:
        process.communicate("\n", timeout=10)


@as_root
def test_other_users_sockets_are_not_asked(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with listening(folder) as listener:
        os.chown(folder / "77-ab.sock", 12345, -1)
        assert collect(timeout=0.3) == []
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (folder / "77-ab.sock").exists()
    assert "not a socket of this user" in caplog.text


def test_other_files_are_left_alone(folder: Path) -> None:
    (folder / "77-ab.sock").touch()
    (folder / "notes.txt").touch()
    (folder / "78-ab.sock").symlink_to("notes.txt")
    (folder / "x78-ab.sock").mkdir()
    assert collect() == []
    assert len(list(folder.iterdir())) == 4


def test_an_unsafe_folder_is_an_error(folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(RuntimeDirError):
        collect()
