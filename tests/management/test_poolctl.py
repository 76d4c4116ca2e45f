"""`commands/poolctl.py`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.monitoring import client
from django_pooled_pg.monitoring.control import ACTIONS
from django_pooled_pg.runtime_dir import describe, runtime_dir
from tests.management.conftest import opens_nothing
from tests.monitoring.members import member, read_line
from tests.support.queries import hold
from tests.support.waiting import wait_until

SIZES = {"resize": ["--max-size=4"]}


def poolctl(*args: str) -> str:
    """Return what it prints, below what it says it is about to steer."""
    out = StringIO()
    call_command("poolctl", *args, stdout=out)
    return below_heading(out, args)


def failing(*args: str) -> tuple[str, str]:
    """Return what it prints, as `poolctl` does, and the error."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("poolctl", *args, stdout=out)
    assert caught.value.returncode == 1
    return below_heading(out, args), str(caught.value)


def below_heading(out: StringIO, args: tuple[str, ...]) -> str:
    printed = out.getvalue()
    if "--json" in args or not printed:
        return printed
    heading, _, rest = printed.partition("\n")
    assert heading == f"{args[0]} {describe(args[1])}, processes of {runtime_dir()}"
    return rest


def figures(pid: int, alias: str = "default") -> dict[str, Any]:
    (report,) = [report for report in client.collect() if report.pid == pid]
    assert report.snapshot is not None
    (pool,) = [pool for pool in report.snapshot["pools"] if pool["alias"] == alias]
    return dict(pool)


def test_in_every_live_process(folder: Path) -> None:
    with member(folder) as one, member(folder) as two:
        printed = poolctl("pause", "default")
        for process in (one, two):
            assert figures(process.pid)["paused"]
            assert not figures(process.pid, "other")["paused"]
        first, second = sorted([one.pid, two.pid])
    assert printed == (
        f"{first} python  default: paused: closed 0 idle connections; 0 in use are closed as they "
        f"return\n"
        f"{second} python  default: paused: closed 0 idle connections; 0 in use are closed as they "
        f"return\n"
    )


def test_in_one_process(folder: Path) -> None:
    with member(folder) as one, member(folder) as two:
        assert poolctl("pause", "default", f"--pid={one.pid}").startswith(f"{one.pid} python  ")
        assert figures(one.pid)["paused"]
        assert not figures(two.pid)["paused"]


def test_resize(folder: Path) -> None:
    with member(folder) as process:
        printed = poolctl("resize", "default", "--min-size=2", "--max-size=4")
        shown = figures(process.pid)
        assert (shown["min_size"], shown["max_size"]) == (2, 4)
        poolctl("resize", "default", "--max-size=5")
        shown = figures(process.pid)
        assert (shown["min_size"], shown["max_size"]) == (2, 5)
    assert "min_size 1 -> 2, max_size 10 -> 4, until the process ends\n" in printed


@pytest.mark.parametrize("action", ACTIONS)
def test_json(folder: Path, action: str) -> None:
    with member(folder) as process:
        (told,) = json.loads(poolctl(action, "default", "--json", *SIZES.get(action, [])))
    assert (told["pid"], told["process"]) == (process.pid, "python")
    ((name, said),) = [(pool["name"], pool["said"]) for pool in told["pools"]]
    assert name == "default"
    assert said


def test_on_a_pool_at_work(folder: Path, make_wrapper: Callable[..., DatabaseWrapper]) -> None:
    wrapper = make_wrapper({"max_size": 1, "timeout": 30}, alias="default")
    pool = wrapper.pool
    assert pool is not None
    first = hold(wrapper)
    wrapper.close()
    wait_until(lambda: pool.statistics().idle == 1)
    mine = [f"--pid={os.getpid()}"]
    printed = poolctl("check", "default", *mine)
    assert "asked the server over 1 idle connections, dropped 0" in printed
    printed = poolctl("drain", "default", *mine)
    assert "replacing 1 idle connections now, and 0 in use as they return" in printed
    wait_until(lambda: pool.statistics().idle == 1)
    assert hold(wrapper) != first
    wrapper.close()
    poolctl("pause", "default", *mine)
    waiting = threading.Thread(target=lambda: pool.give_back(pool.borrow()))
    waiting.start()
    wait_until(lambda: pool.statistics().waiting == 1)
    assert "resumed: 1 borrowers were waiting" in poolctl("resume", "default", *mine)
    waiting.join(5)
    assert not waiting.is_alive()


def test_says_what_it_is_about_to_steer(
    folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {"ENGINE": "django_pooled_pg", "NAME": "shop", "HOST": "db.internal", "PORT": 5432}
    monkeypatch.setitem(settings.DATABASES, "shop", database)
    settings.SETTINGS_MODULE = "shop.settings"
    out = StringIO()
    said = "'shop' (shop on db.internal:5432, shop.settings)"

    def asked(*args: Any) -> Any:
        assert out.getvalue() == f"pause {said}, processes of {folder}\n"
        return []

    monkeypatch.setattr(client, "ask", asked)
    with pytest.raises(CommandError, match=f"pool of database {re.escape(said)}. Looked in "):
        call_command("poolctl", "pause", "shop", stdout=out)


# What goes wrong


def no_process(process: str = "process") -> str:
    return (
        f"No live {process} of this deployment has a connection pool of database "
        f"{describe('default')}. Looked in {runtime_dir()}."
    )


def test_no_live_process(folder: Path) -> None:
    assert failing("drain", "default") == (
        "",
        no_process(),
    )
    assert failing("drain", "default", "--json")[0] == "[]\n"


def test_no_such_process(folder: Path) -> None:
    with member(folder) as process:
        other = process.pid + 1
        assert failing("drain", "default", f"--pid={other}") == (
            "",
            no_process(f"process {other}"),
        )


def test_no_process_has_such_a_pool(folder: Path) -> None:
    script = "from django_pooled_pg.pooling import registry\ndel registry._kept['default']\n"
    with member(folder, script + "ready()") as process:
        assert failing("drain", "default") == (
            f"{process.pid} python  has no such pool\n",
            no_process(),
        )
        with member(folder):
            assert f"{process.pid} python  has no such pool\n" in poolctl("drain", "default")


def test_unknown_database(folder: Path) -> None:
    _, error = failing("drain", "defualt")
    assert error == "DATABASES has no 'defualt', only: default."


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_timeouts(folder: Path, timeout: str) -> None:
    with pytest.raises(CommandError, match="timeout"):
        poolctl("drain", "default", "--timeout", timeout)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["stop", "default"], "invalid choice: 'stop'"),
        (["drain"], "required: ALIAS"),
        (["resize", "default"], "resize needs --min-size, --max-size or --budget"),
        (["pause", "default", "--max-size=3"], "are for resize, not for pause"),
        (["resize", "default", "--max-size=many"], "invalid int value"),
        (["drain", "default", "--pid=all"], "invalid int value"),
    ],
)
def test_wrong_arguments(folder: Path, args: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        poolctl(*args)


def test_sizes_that_do_not_go_together(folder: Path) -> None:
    with member(folder) as one, member(folder) as two:
        printed, error = failing("resize", "default", "--min-size=11")
    assert error == "2 of 2 processes failed or did not answer."
    for process in (one, two):
        assert f"{process.pid} python  default: error: DATABASES['default']" in printed
    assert "more than max_size 10" in printed


def test_processes_that_do_not_answer(folder: Path) -> None:
    with member(folder) as stopped, member(folder) as alive:
        stopped.send_signal(signal.SIGSTOP)
        printed, error = failing("pause", "default", "--timeout=1")
        assert f"{stopped.pid}  error: no answer within 1 s\n" in printed
        assert f"{alive.pid} python  default: paused" in printed
        assert error == "1 of 2 processes failed or did not answer."
        printed, error = failing("resume", "default", "--timeout=1", "--json")
        shown = {process["pid"]: process for process in json.loads(printed)}
        assert set(shown[stopped.pid]) == {"pid", "error"}
        assert shown[alive.pid]["pools"][0]["said"].startswith("resumed")


@contextmanager
def answering(folder: Path, result: Any) -> Iterator[None]:
    """A process that answers, once, with something of its own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(folder / f"{os.getpid()}-00000000.sock"))
        listener.listen()

        def answer() -> None:
            asking, _ = listener.accept()
            with asking:
                read_line(asking)
                asking.sendall(json.dumps({"ok": True, "result": result}).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(5)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"done": []},
        {"process": 5, "done": []},
        {"process": "x", "done": {}},
        {"process": "x", "done": ["drained"]},
        {"process": "x", "done": [{"said": "drained"}]},
        {"process": "x", "done": [{"name": "default"}]},
        {"process": "x", "done": [{"name": "default", "said": 5}]},
        {"process": "x", "done": [{"name": "default", "said": "done", "error": None}]},
    ],
)
def test_wrong_answers(folder: Path, result: Any) -> None:
    with answering(folder, result):
        printed, error = failing("drain", "default")
    assert printed == f"{os.getpid()}  error: invalid answer: not what was done to its pools\n"
    assert error == "1 of 1 processes failed or did not answer."


def test_unsafe_folder(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(CommandError, match="chmod 700"):
        poolctl("drain", "default")


def test_opens_no_pool_and_no_connection(folder: Path) -> None:
    opens_nothing(folder, "poolctl", "drain", "default")


def test_shows_no_secrets(folder: Path) -> None:
    with member(folder):
        printed = "".join(poolctl(action, "default", *SIZES.get(action, [])) for action in ACTIONS)
    assert "sesame" not in printed
    assert "secret" not in printed
