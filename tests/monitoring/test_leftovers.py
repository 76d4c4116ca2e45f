from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from django_pooled_pg.monitoring import endpoint, leftovers
from django_pooled_pg.monitoring.client import collect
from django_pooled_pg.monitoring.leftovers import is_gone, sweep
from tests.monitoring.members import member, sockets
from tests.support.waiting import wait_until


@pytest.fixture
def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=10)
    return process.pid


def bound(path: Path) -> Path:
    """A socket that nobody listens to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def test_a_start_removes_what_the_dead_left(folder: Path, dead_pid: int) -> None:
    left = bound(folder / f"{dead_pid}-ab.sock")
    endpoint.ensure_running()
    wait_until(lambda: not left.exists())
    assert len(sockets(folder)) == 1


def test_a_start_removes_a_killed_process_socket(folder: Path) -> None:
    with member(folder) as process:
        process.kill()
        process.wait(timeout=10)
        with member(folder) as alive:
            wait_until(lambda: len(sockets(folder)) == 1)
            assert [report.pid for report in collect()] == [alive.pid]


def test_sweeping_leaves_processes_of_other_containers(folder: Path, dead_pid: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / f"{dead_pid}-ab.sock"))
        listener.listen()
        sweep(folder)
        assert len(sockets(folder)) == 1


def test_sweeping_does_not_disturb_live_processes(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / f"{os.getppid()}-ab.sock"))
        listener.listen()
        listener.settimeout(0)
        sweep(folder)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_sweeping_leaves_other_files(folder: Path, dead_pid: int) -> None:
    (folder / f"{dead_pid}-ab.sock").touch()
    (folder / f"{dead_pid}-cd.sock").symlink_to("nothing")
    bound(folder / "somebody.sock")
    sweep(folder)
    assert len(list(folder.iterdir())) == 3


def test_a_process_that_is_starting_is_not_taken_for_dead(folder: Path, dead_pid: int) -> None:
    starting = bound(folder / f"{dead_pid}-ab.new")  # and doesn't listen yet
    sweep(folder)
    assert collect() == []
    assert starting.exists()


@pytest.mark.parametrize("act", [collect, lambda: sweep(Path(endpoint.runtime_dir()))])
def test_a_process_that_died_while_starting_leaves_nothing(
    folder: Path, dead_pid: int, act: object
) -> None:
    path = bound(folder / f"{dead_pid}-ab.new")
    long_ago = time.time() - leftovers.UNFINISHED_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert callable(act)
    act()
    assert not path.exists()


def test_a_busy_process_is_not_gone(folder: Path) -> None:
    path = folder / "77-ab.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        assert is_gone(path) is False
    assert is_gone(path) is True
    assert not path.exists()
    assert is_gone(path) is True
