"""The socket on which a process answers: `endpoint.py`, and `answering.py`."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring import answering, endpoint
from django_pooled_pg.monitoring.wire import MAX_ANSWER_BYTES, MAX_TEXT
from tests.monitoring.members import (
    DATABASES,
    JOIN,
    ask,
    connected,
    member,
    read_line,
    short_folder,
    sockets,
)
from tests.support.processes import run_script, start_script
from tests.support.queries import fetch, hold
from tests.support.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


# Asking


def test_answers_with_its_snapshot(running: Path) -> None:
    answer = ask(running)
    assert answer["ok"] is True
    assert answer["result"]["pid"] == os.getpid()
    assert running.name.startswith(f"{os.getpid()}-")


@pytest.mark.parametrize(
    ("request_line", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not JSON"),
        (b"\xff\n", "not JSON"),
        (b"[" * 4000 + b"\n", "not JSON"),
        (b"[]\n", "must be one of: snapshot"),
        (b"null\n", "must be one of: snapshot"),
        (b"{}\n", "must be one of: snapshot"),
        (b'{"request":["snapshot"]}\n', "must be one of: snapshot"),
        (b'{"request":"drop"}\n', "must be one of: snapshot"),
        (b"x" * 5000 + b"\n", "longer than 4096 bytes"),
        (b" " * 100_000, "longer than 4096 bytes"),
    ],
)
def test_refuses_what_it_does_not_know(running: Path, request_line: bytes, error: str) -> None:
    answer = ask(running, request_line)
    assert answer["ok"] is False
    assert error in answer["error"]
    assert ask(running)["ok"] is True


def test_takes_a_request_of_the_greatest_size(running: Path) -> None:
    line = b'{"request":"snapshot"}'
    assert ask(running, line.ljust(4095) + b"\n")["ok"] is True
    assert ask(running, line.ljust(4096) + b"\n")["ok"] is False


def test_tells_the_client_when_it_fails(
    running: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> dict[str, Any]:
        raise LookupError("sesame")

    with monkeypatch.context() as patch:
        patch.setitem(answering._REQUESTS, "snapshot", fail)
        assert ask(running) == {
            "ok": False,
            "error": "LookupError in the process that was asked",
        }
    assert ask(running)["ok"] is True
    assert [record.exc_text for record in caplog.records if "LookupError" in str(record.exc_text)]


def test_texts_of_any_length_and_kind_fit_into_an_answer(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["\udcff" + "x" * 2_000_000])
    with connected(running) as client:
        client.sendall(b'{"request":"snapshot"}\n')
        line = read_line(client)
    assert len(line) < MAX_ANSWER_BYTES
    process = json.loads(line)["result"]["process"]
    assert process.startswith(r"\udcffxxx")
    assert len(process) <= MAX_TEXT + 5


def test_an_answer_that_would_be_too_long_is_said_to_be(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(answering._REQUESTS, "snapshot", lambda: {"pools": ["x" * 400] * 5000})
    answer = ask(running)
    assert answer["ok"] is False
    assert re.fullmatch("its answer would have 20[0-9]{5} bytes", answer["error"])


# Clients that hang


def test_hanging_clients_hold_up_nobody(running: Path) -> None:
    hanging = [connected(running) for _ in range(8)]
    hanging[0].sendall(b'{"request":')
    started = monotonic()
    assert ask(running)["ok"] is True
    assert monotonic() - started < endpoint.CLIENT_SECONDS / 2
    # And each of them is dropped.
    assert [client.recv(1) for client in hanging] == [b""] * 8
    for client in hanging:
        client.close()


def test_more_hanging_clients_than_are_served_at_once(running: Path) -> None:
    hanging = [connected(running) for _ in range(endpoint._MAX_CLIENTS + 4)]
    assert ask(running)["ok"] is True
    for client in hanging:
        assert client.recv(1) == b""
        client.close()


def test_a_client_that_drips_is_dropped(running: Path) -> None:
    with connected(running) as client:

        def drip() -> bool:
            try:
                client.sendall(b" ")
            except ConnectionError:
                return True
            return False

        wait_until(drip, within=2 * endpoint.CLIENT_SECONDS)


def test_a_client_that_never_reads_is_dropped(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(running) as client, monkeypatch.context() as patch:
        patch.setitem(answering._REQUESTS, "snapshot", lambda: {"much": ["x" * 400] * 2000})
        client.sendall(b'{"request":"snapshot"}\n')
        wait_until(lambda: endpoint._endpoint is not None and endpoint._endpoint._clients)
        wait_until(lambda: endpoint._endpoint is not None and not endpoint._endpoint._clients)
        assert not read_line(client).endswith(b"\n")
    assert ask(running)["ok"] is True


def test_clients_are_dropped_when_it_stops(running: Path) -> None:
    with connected(running, within=endpoint.CLIENT_SECONDS / 2) as client:
        wait_until(lambda: endpoint._endpoint is not None and endpoint._endpoint._clients)
        endpoint.stop()
        assert client.recv(1) == b""


# Who asks

CONNECT_AS_NOBODY = """
import socket
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(5)
    client.connect({path!r})
    try:
        client.sendall(b'{{"request":"snapshot"}}\\n')
        print(client.recv(1000))
    except ConnectionError:
        print(b"")
"""


@as_root
def test_other_users_get_no_answer(
    running: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As if somebody had opened the folder later.
    folder.chmod(0o711)
    running.chmod(0o777)
    assert run_script(CONNECT_AS_NOBODY.format(path=str(running)), {}) == "b''\n"
    assert "User 65534 tried to ask" in caplog.text


@as_root
def test_root_may_ask() -> None:
    with short_folder() as folder:
        os.chown(folder, 65534, 65534)
        script = JOIN.replace("endpoint.ensure_running()", "")
        # First, since the user may have no access to this folder.
        script += "import django_pooled_pg.monitoring.answering\nos.setuid(65534)\nendpoint.ensure_running()\nready()"
        process = start_script(script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert ask(sockets(folder)[0])["result"]["pid"] == process.pid
        process.communicate("\n", timeout=10)


# Starting


def test_starts_once(running: Path, folder: Path) -> None:
    threads = threading.active_count()
    endpoint.ensure_running()
    assert sockets(folder) == [running]
    assert threading.active_count() == threads


def test_starts_once_from_many_threads(folder: Path) -> None:
    together = threading.Barrier(16)

    def start() -> None:
        together.wait()
        endpoint.ensure_running()

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(folder.iterdir())) == 1


def test_stops_and_starts_again(running: Path, folder: Path) -> None:
    assert endpoint._endpoint is not None
    thread = endpoint._endpoint._thread
    endpoint.stop()
    assert not thread.is_alive()
    assert list(folder.iterdir()) == []
    endpoint.ensure_running()
    (path,) = sockets(folder)
    assert ask(path)["ok"] is True


def test_warns_once_when_it_cannot_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.chmod(0o755)
    endpoint._warned = False
    endpoint.ensure_running()
    endpoint.ensure_running()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"poolstats won't see process {os.getpid()}" in record.message
    assert f"chmod 700 '{folder}'" in record.message
    folder.chmod(0o700)
    endpoint.ensure_running()
    assert len(sockets(folder)) == 1


def test_starts_with_a_pool(folder: Path, make_wrapper: Callable[..., DatabaseWrapper]) -> None:
    wrapper = make_wrapper()
    assert wrapper.pool is not None
    assert sockets(folder) == []  # no pool is open yet
    assert hold(wrapper)
    (path,) = sockets(folder)
    pools = {pool["alias"]: pool for pool in ask(path)["result"]["pools"]}
    assert pools[wrapper.alias]["in_use"] == 1


@pytest.mark.parametrize("setting", ["relative", "/nowhere/at/all", "/" + "x" * 200, "/\0", 3])
def test_a_borrow_goes_on_without_it(
    folder: Path,
    settings: Any,
    setting: Any,
    make_wrapper: Callable[..., DatabaseWrapper],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.POOLED_PG_RUNTIME_DIR = setting
    endpoint._warned = False
    assert fetch(make_wrapper(), "SELECT 1") == 1
    assert "poolstats won't see process" in caplog.text


# The file


def test_comes_back_when_its_file_was_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CHECK_SECONDS", 0.05)
    endpoint.ensure_running()
    (path,) = sockets(folder)
    path.unlink()
    (new,) = wait_until(lambda: sockets(folder))
    assert new != path
    assert ask(new)["ok"] is True
    new.unlink()
    folder.rmdir()
    (newer,) = wait_until(lambda: sockets(folder))
    assert ask(newer)["ok"] is True
    endpoint.stop()
    assert list(folder.iterdir()) == []


def test_keeps_its_file_young(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CHECK_SECONDS", 0.05)
    endpoint.ensure_running()
    (path,) = sockets(folder)
    os.utime(path, (1, 1))
    wait_until(lambda: path.stat().st_mtime > 1)


# Forks and exits


def test_a_forked_child_has_its_own(folder: Path) -> None:
    script = """
if (child := os.fork()) == 0:
    endpoint.ensure_running()
    ready()
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""
    process = start_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    told = [ask(path)["result"] for path in sockets(folder)]
    assert len(told) == 2
    (child,) = [result for result in told if result["pid"] != process.pid]
    assert child["parent_pid"] == process.pid
    out, err = process.communicate("\n", timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert sockets(folder) == []


def test_a_childs_exit_leaves_the_parents_socket(folder: Path) -> None:
    script = """
if (child := os.fork()) == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
ready()
"""
    with member(folder, script) as process:
        (path,) = sockets(folder)
        assert ask(path)["result"]["pid"] == process.pid


def test_a_child_does_not_keep_the_parents_socket_alive(folder: Path) -> None:
    # The child opens no pool; it lives on until its pipe closes.
    script = """
if os.fork() == 0:
    ready()
    os._exit(0)
sys.stdin.close()
import signal
signal.pause()
"""
    process = start_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (path,) = sockets(folder)
    process.kill()
    process.wait(timeout=10)
    with pytest.raises(ConnectionRefusedError):
        connected(path)
    process.communicate("\n", timeout=10)


def test_a_child_forked_while_the_parent_starts_can_start(folder: Path) -> None:
    script = """
endpoint.stop()
endpoint._starting.acquire()
if (child := os.fork()) == 0:
    endpoint.ensure_running()
    sys.exit(0 if endpoint._endpoint else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    run_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))


def test_a_child_forked_while_the_parent_imports_what_answers_can_import_it(folder: Path) -> None:
    script = """
import signal, socket, threading
began, forking = threading.Event(), threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name.endswith(".answering"):
            began.set()
            assert forking.wait(10)
sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(str(endpoint._endpoint._path))
    assert began.wait(10)
    if (child := os.fork()) == 0:
        signal.alarm(10)
        import django_pooled_pg.monitoring.answering
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    run_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))


def test_exit_removes_the_socket_at_once_and_silently(folder: Path) -> None:
    with member(folder) as undisturbed:
        started = monotonic()
        undisturbed.communicate("\n", timeout=20)
        usual = monotonic() - started
    with member(folder) as process:
        (path,) = sockets(folder)
        with connected(path), connected(path):
            started = monotonic()
            out, err = process.communicate("\n", timeout=20)
            # Each of the two clients would hold it up for CLIENT_SECONDS.
            assert monotonic() - started < 2 * usual + endpoint.CLIENT_SECONDS
        assert (process.returncode, out, err) == (0, "", "")
        assert sockets(folder) == []


@pytest.mark.parametrize("deleted", [False, True])
def test_stopping_takes_no_time(running: Path, deleted: bool) -> None:
    ask(running)
    if deleted:
        running.unlink()
    started = monotonic()
    endpoint.stop()
    assert monotonic() - started < endpoint.CLIENT_SECONDS / 2


def test_exit_is_silent_when_the_file_was_deleted(folder: Path) -> None:
    script = "os.unlink(endpoint._endpoint._path)"
    run_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))


def test_nothing_starts_while_the_process_exits(folder: Path) -> None:
    script = """
import atexit
# Runs after those that were registered later.
atexit.unregister(endpoint._stop_at_exit)
atexit.register(endpoint.ensure_running)
atexit.register(endpoint._stop_at_exit)
"""
    run_script(JOIN + script, DATABASES, POOLED_PG_RUNTIME_DIR=str(folder))
    assert list(folder.iterdir()) == []


def test_an_exit_without_notice_leaves_a_socket_that_refuses(folder: Path) -> None:
    with member(folder) as process:
        (path,) = sockets(folder)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        with pytest.raises(ConnectionRefusedError):
            connected(path)


def test_answers_are_json_on_one_line(running: Path) -> None:
    with connected(running) as client:
        client.sendall(b'{"request":"snapshot"}\n')
        line = read_line(client)
        assert line.count(b"\n") == 1
        assert json.loads(line)["result"]["version"] == 1
        assert client.recv(1) == b""
