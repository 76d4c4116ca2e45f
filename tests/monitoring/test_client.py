from __future__ import annotations

import json
import os
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
from django_pooled_pg.monitoring.runtime_dir import RuntimeDirError
from tests.monitoring.made_up import pool
from tests.monitoring.members import member, sockets

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
            pid=stopped.pid, error="not answering within 0.5 s"
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
    assert {report.error for report in reports} == {"not answering within 0.3 s"}


def test_a_process_that_is_flooded(folder: Path) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(listening(folder))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(folder / "77-ab.sock"))
        (report,) = collect(timeout=0.3)
        assert report.error == "not answering: too many wait for it already"


def test_a_process_that_ends_when_it_is_asked(folder: Path) -> None:
    def end(connection: socket.socket, path: Path) -> None:
        path.unlink()

    with impostor(folder, end):
        assert collect() == []


# Answers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"hello\n", "answered wrongly: Expecting value"),
        (b"\xff\n", "answered wrongly: 'utf-8' codec"),
        (b"[" * 100_000 + b"\n", "answered wrongly: "),
        (b"[]\n", "answered wrongly: not a JSON object"),
        (b"{}\n", "answered wrongly: None"),
        (b'{"ok":false,"error":"no time"}\n', "answered wrongly: no time"),
        (b'{"ok":true}\n', "answered wrongly: its result is not a JSON object"),
        (b'{"ok":true,"result":{"pools":7}}\n', "answered wrongly: not a snapshot"),
        (b'{"ok":true,"result":{"pools":[]}}\n', "its snapshot has version None, not 1"),
        (b'{"ok":true,"result":{"pools":[],"version":1}}\n', "'process' is missing"),
        (b"x" * 2_000_000, f"answered with more than {1024 * 1024} bytes"),
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


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"borrows": None}, "'borrows' is not a number"),
        ({"held_max": "1"}, "'held_max' is not a number"),
        ({"alias": 1}, "'alias' is not a text"),
        ({"wait_buckets": [1]}, "'wait_buckets' is not a histogram"),
    ],
)
def test_wrong_pools(folder: Path, running: Path, change: dict[str, Any], error: str) -> None:
    good: dict[str, Any] = {"version": 1, "process": "x", "pools": [pool()]}

    def line() -> bytes:
        return json.dumps({"ok": True, "result": good}).encode() + b"\n"

    report.check_snapshot(client._read_answer(line()))
    running.unlink()
    good["pools"] = [pool() | change]
    assert error in wrong_answer(folder, line())


def test_pools_of_an_older_release(folder: Path) -> None:
    answer = {"ok": True, "result": {"version": 1, "process": "x", "pools": [{"alias": "a"}]}}
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
    assert report.error == "not answering within 0.3 s"


def test_both_sides_speak_the_same_version() -> None:
    assert report._VERSION == snapshot.VERSION


# What else is in the folder


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
