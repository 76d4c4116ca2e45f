"""`commands/poolstats.py`, and the `arguments.py` of both commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_pooled_pg import RequestAbandoned
from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.management.commands.poolstats import Command
from django_pooled_pg.pooling.work import watcher
from django_pooled_pg.pooling.work.work import Work
from tests.management.conftest import opens_nothing
from tests.monitoring.members import DATABASES, member
from tests.support.processes import start_script
from tests.support.queries import fetch, hold


def poolstats(*args: str) -> str:
    out = StringIO()
    call_command("poolstats", *args, stdout=out)
    return out.getvalue()


def processes(*args: str) -> list[dict[str, Any]]:
    """What `--json` says of the processes."""
    shown: list[dict[str, Any]] = json.loads(poolstats("--json", *args))["processes"]
    return shown


def test_no_live_process(folder: Path) -> None:
    assert poolstats() == "No live process of this project has a connection pool.\n"
    assert processes() == []


def test_table_of_live_processes(folder: Path) -> None:
    with member(folder) as one, member(folder) as two:
        printed = poolstats()
    _, heading, *rows = printed.splitlines()
    assert heading.split("  ")[0] == "ALIAS"
    labels = [tuple(" ".join(row.split("  ")[:1]).split()[:1] + row.split()[1:2]) for row in rows]
    first, second = sorted([one.pid, two.pid])
    assert labels[:6] == [
        ("default", f"{first}"),
        ("default", f"{second}"),
        ("default", "total"),
        ("other", f"{first}"),
        ("other", f"{second}"),
        ("other", "total"),
    ]


def test_json_of_live_processes(folder: Path) -> None:
    with member(folder) as process:
        (shown,) = processes()
    assert (shown["pid"], shown["parent_pid"]) == (process.pid, os.getpid())
    assert [pool["alias"] for pool in shown["pools"]] == ["default", "other"]


def test_figures_move_with_the_work(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper]
) -> None:
    wrapper = make_wrapper({"max_size": 3})

    def figures() -> dict[str, Any]:
        (process,) = processes()
        (pool,) = [pool for pool in process["pools"] if pool["alias"] == wrapper.alias]
        return dict(pool)

    hold(wrapper)
    before = figures()
    assert (before["in_use"], before["borrows"], before["returns"]) == (1, 1, 0)
    assert (before["size"], before["max_size"], before["connects"]) == (1, 3, 1)
    assert before["wait_max_seconds"] > 0
    wrapper.close()
    fetch(wrapper, "SELECT 1")
    wrapper.close()
    after = figures()
    assert (after["in_use"], after["borrows"], after["returns"]) == (0, 2, 2)
    assert after["held_total_seconds"] > after["held_max_seconds"] > 0
    assert f"{wrapper.alias}" in poolstats()


def test_one_database(folder: Path) -> None:
    with member(folder):
        (shown,) = processes("--database", "default")
        assert [pool["alias"] for pool in shown["pools"]] == ["default"]
        printed = poolstats("--database", "default")
        assert "default" in printed
        assert "other" not in printed


def test_no_pool_of_that_database(folder: Path) -> None:
    script = "from django_pooled_pg.pooling import registry\nregistry._kept.clear()\nready()"
    with member(folder, script):
        assert poolstats("--database", "default") == (
            "No live process of this project has a connection pool of database 'default'.\n"
        )
        assert processes("--database", "default") == []


def test_unknown_database(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"DATABASES has no 'defualt', only: default"):
        poolstats("--database", "defualt")


@pytest.mark.parametrize("option", ["timeout", "watch", "interval"])
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_times(folder: Path, option: str, seconds: str) -> None:
    with pytest.raises(CommandError, match=option):
        poolstats(f"--{option}={seconds}")


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_wrong_numbers_of_holders(folder: Path, number: str) -> None:
    with pytest.raises(CommandError, match="holders"):
        poolstats(f"--holders={number}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--json --format table", "--json and --format table"),
        ("--json --format prometheus", "--json and --format prometheus"),
        ("--watch --interval 1", "--watch and --interval"),
        ("--watch --json", "--watch and --format json"),
        ("--watch --format json", "--watch and --format json"),
        ("--watch --format prometheus", "--watch and --format prometheus"),
        ("--interval 1 --format prometheus", "--interval and --format prometheus"),
        ("--holders --format prometheus", "--holders and --format prometheus"),
        ("--server --format prometheus", "--server and --format prometheus"),
        ("--advise --format prometheus", "--advise and --format prometheus"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, options: str, said: str) -> None:
    with pytest.raises(CommandError, match=f"{said} don't go together"):
        poolstats(*options.split())


def test_processes_that_do_not_answer(folder: Path) -> None:
    with member(folder) as stopped, member(folder) as alive:
        stopped.send_signal(signal.SIGSTOP)
        printed = poolstats("--timeout", "0.3")
        assert f"{alive.pid} python" in printed
        assert printed.endswith(f"\n\nProcess {stopped.pid}: no answer within 0.3 s\n")
        shown = {p["pid"]: p for p in processes("--timeout", "0.3")}
        assert shown[stopped.pid] == {
            "pid": stopped.pid,
            "error": "no answer within 0.3 s",
        }
        assert "pools" in shown[alive.pid]


def test_unsafe_folder(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(CommandError, match="chmod 700"):
        poolstats()


def test_opens_no_pool_and_no_connection(folder: Path) -> None:
    opens_nothing(folder, "poolstats")


def test_shows_no_secrets(folder: Path) -> None:
    with member(folder):
        printed = poolstats() + poolstats("--json") + poolstats("--format", "prometheus")
        printed += poolstats("--holders", "--server", "--advise")
    assert "sesame" not in printed
    assert "secret" not in printed.replace("may hold a secret", "")


def test_formats(folder: Path) -> None:
    with member(folder) as process:
        assert processes() == json.loads(poolstats("--format", "json"))["processes"]
        assert "ALIAS" in poolstats("--format", "table")
        printed = poolstats("--format", "prometheus", "--database", "default")
    assert f'pid="{process.pid}"' in printed
    assert 'alias="default"' in printed
    assert 'alias="other"' not in printed
    assert printed.startswith("# ")
    assert not printed.endswith("\n\n")


def test_json_of_everything(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper], database: dict[str, Any]
) -> None:
    wrapper = make_wrapper({"max_size": 3}, alias="default")
    hold(wrapper)
    asked = ("--json", "--holders", "--server", "--advise", "--database", "default")
    shown = json.loads(poolstats(*asked))
    assert set(shown) == {"interval_seconds", "processes", "holders", "server", "advice"}
    assert shown["interval_seconds"] is None
    assert {holder["alias"] for holder in shown["holders"]} == {"default"}
    (side,) = shown["server"]
    assert (side["alias"], side["ours"] > 0) == ("default", True)
    assert set(json.loads(poolstats("--json"))) == {"interval_seconds", "processes"}


def test_figures_of_an_interval(
    folder: Path,
    make_wrapper: Callable[..., DatabaseWrapper],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapper = make_wrapper({"max_size": 3})
    fetch(wrapper, "SELECT 1")

    def instead_of_sleeping(seconds: float) -> None:
        assert seconds == 5.0
        for _ in range(3):
            fetch(wrapper, "SELECT 1")

    monkeypatch.setattr(f"{Command.__module__}.sleep", instead_of_sleeping)
    wrapper.close()
    shown = json.loads(poolstats("--json", "--interval", "5"))
    (pool,) = [p for p in shown["processes"][0]["pools"] if p["alias"] == wrapper.alias]
    assert pool["borrows"] == sum(pool["wait_buckets"]) == 3
    assert 0 < shown["interval_seconds"] < 5
    assert "counts and times of the last 0." in poolstats("--interval", "5")


def test_holders_and_their_place(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper]
) -> None:
    wrappers = [make_wrapper({"max_size": 2}) for _ in range(3)]
    for wrapper in wrappers:
        hold(wrapper)

    def rows(*args: str) -> list[str]:
        found = poolstats("--holders", *args).split("\n\n")[1].splitlines()
        assert found[0] == "Held longest at this moment:"
        return found[2:]

    aliases = [wrapper.alias for wrapper in wrappers]
    held = [row for row in rows("100") if row.split()[0] in aliases]
    assert [row.split()[0] for row in held] == aliases
    assert f"{__file__}:" in held[0]
    assert len(rows("2")) == 2
    assert len(rows()) >= 3


def test_a_holder_whose_client_has_gone(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper]
) -> None:
    wrapper = make_wrapper()
    hold(wrapper)
    has_gone = False
    work = Work(has_gone=lambda: has_gone)
    asked = ("--holders", "1000")
    watcher.enter(work)
    try:
        fetch(wrapper, "SELECT 1")
        assert "WORK" not in poolstats(*asked)
        has_gone = True
        with pytest.raises(RequestAbandoned):
            fetch(wrapper, "SELECT pg_sleep(30)")
        printed = poolstats(*asked)
        holders = json.loads(poolstats("--json", *asked))["holders"]
        (holder,) = [each for each in holders if each["alias"] == wrapper.alias]
    finally:
        watcher.leave(work)
    assert re.search(rf"^{wrapper.alias} .* abandoned  ", printed, re.MULTILINE)
    assert f"{wrapper.alias}: stopped: 1 abandoned at work." in printed
    assert (holder["abandoned"], holder["remaining_seconds"]) == (True, None)
    assert "WORK" not in poolstats(*asked)  # the request has ended


@pytest.mark.usefixtures("make_wrapper")  # lets it use the database
def test_server(folder: Path) -> None:
    _, said = poolstats("--server").split("\n\n")
    assert said.startswith("Server of default (PostgreSQL ")
    assert "less" in said


def test_a_server_that_cannot_be_reached_spoils_nothing(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper({"max_size": 1}, HOST="127.0.0.1", PORT="1")
    monkeypatch.setitem(connections.settings, wrapper.alias, wrapper.settings_dict)
    with monkeypatch.context() as patched, member(folder) as process:
        patched.setattr(connections._connections, wrapper.alias, wrapper, raising=False)
        printed = poolstats("--server", "--advise")
    assert f"{process.pid} python" in printed
    assert f"Server of {wrapper.alias}: can't be asked: connection failed" in printed
    assert "Server of default (PostgreSQL" in printed
    assert "Nothing to advise." in printed


def test_server_of_another_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Command.__module__}._is_ours", lambda alias: False)
    with pytest.raises(CommandError, match="'default' doesn't use this engine"):
        poolstats("--server", "--database", "default")
    assert "Server of" not in poolstats("--server")


def test_advice(folder: Path, make_wrapper: Callable[..., DatabaseWrapper]) -> None:
    wrapper = make_wrapper({"max_size": 2})
    assert wrapper.pool is not None
    hold(wrapper)
    wrapper.pool.pause()
    try:
        printed = poolstats("--advise")
    finally:
        wrapper.pool.resume()
    advice = printed.split("\n\n")[-1].splitlines()
    assert advice[0] == "Advice:"
    assert any(line.startswith(f"{wrapper.alias}: 1 of 1 pool paused") for line in advice)
    assert f"{wrapper.alias} PAUSED" in printed
    advice = poolstats("--advise").split("\n\n")[-1].splitlines()
    assert not [line for line in advice if line.startswith(f"{wrapper.alias}:")]


WATCH = """
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "poolstats", "--watch", "0.05"])
print("after", flush=True)
"""


def test_watch_until_ctrl_c(folder: Path) -> None:
    with member(folder), watching(folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        periods = []
        while len(periods) < 3:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            periods += [line] if "counts and times" in line else []
        process.send_signal(signal.SIGINT)
        rest = "\n" + process.stdout.read()
        assert rest.endswith("\n\nafter\n")  # and no half of a table
        assert (process.wait(10), process.stderr.read()) == (0, "")
    assert periods[0].endswith("counts and times since each process started.\n")
    assert "counts and times of the last 0." in periods[1]


def test_watch_ends_when_nobody_reads(folder: Path) -> None:
    with member(folder), watching(folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(10), process.stderr.read()) == (0, "")


@contextmanager
def watching(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_script(
        WATCH, DATABASES, INSTALLED_APPS=["django_pooled_pg"], POOLED_PG_RUNTIME_DIR=str(folder)
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
