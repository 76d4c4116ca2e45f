from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_pooled_pg.base import DatabaseWrapper
from tests.monitoring.members import DATABASES, member
from tests.support.processes import run_script
from tests.support.queries import fetch, hold


def poolstats(*args: str) -> str:
    out = StringIO()
    call_command("poolstats", *args, stdout=out)
    return out.getvalue()


def test_no_live_process(folder: Path) -> None:
    assert poolstats() == "No live process of this project has a connection pool.\n"
    assert json.loads(poolstats("--json")) == []


def test_table_of_live_processes(folder: Path) -> None:
    with member(folder) as one, member(folder) as two:
        printed = poolstats()
    heading, *rows = printed.splitlines()
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
        (shown,) = json.loads(poolstats("--json"))
    assert (shown["pid"], shown["parent_pid"]) == (process.pid, os.getpid())
    assert [pool["alias"] for pool in shown["pools"]] == ["default", "other"]


def test_figures_move_with_the_work(
    folder: Path, make_wrapper: Callable[..., DatabaseWrapper]
) -> None:
    wrapper = make_wrapper({"max_size": 3})

    def figures() -> dict[str, Any]:
        (process,) = json.loads(poolstats("--json"))
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
        (shown,) = json.loads(poolstats("--json", "--database", "default"))
        assert [pool["alias"] for pool in shown["pools"]] == ["default"]
        printed = poolstats("--database", "default")
        assert "default" in printed
        assert "other" not in printed


def test_no_pool_of_that_database(folder: Path) -> None:
    script = "from django_pooled_pg.pooling import registry\nregistry._entries.clear()\nready()"
    with member(folder, script):
        assert poolstats("--database", "default") == (
            "No live process of this project has a connection pool of database 'default'.\n"
        )
        assert json.loads(poolstats("--database", "default", "--json")) == []


def test_unknown_database(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"no database 'defualt' in DATABASES, only: default"):
        poolstats("--database", "defualt")


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_timeouts(folder: Path, timeout: str) -> None:
    with pytest.raises(CommandError, match="timeout"):
        poolstats("--timeout", timeout)


def test_processes_that_do_not_answer(folder: Path) -> None:
    with member(folder) as stopped, member(folder) as alive:
        stopped.send_signal(signal.SIGSTOP)
        printed = poolstats("--timeout", "0.3")
        assert f"{alive.pid} python" in printed
        assert printed.endswith(f"\n\nProcess {stopped.pid}: not answering within 0.3 s\n")
        shown = {p["pid"]: p for p in json.loads(poolstats("--timeout", "0.3", "--json"))}
        assert shown[stopped.pid] == {
            "pid": stopped.pid,
            "error": "not answering within 0.3 s",
        }
        assert "pools" in shown[alive.pid]


def test_unsafe_folder(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(CommandError, match="chmod 700"):
        poolstats()


def test_opens_no_pool_and_no_connection(folder: Path) -> None:
    with member(folder):
        run_script(
            """
from django.core.management import call_command
from django_pooled_pg.pooling import registry
call_command("poolstats")
assert not [pool for pool in registry.pools() if pool.statistics().connects]
assert connection.connection is None
assert not [name for name in os.listdir(settings.POOLED_PG_RUNTIME_DIR)
            if name.startswith(f"{os.getpid()}-")]
""",
            DATABASES,
            INSTALLED_APPS=["django_pooled_pg"],
            POOLED_PG_RUNTIME_DIR=str(folder),
        )


def test_shows_no_secrets(folder: Path) -> None:
    with member(folder):
        printed = poolstats() + poolstats("--json")
    assert "sesame" not in printed
    assert "secret" not in printed
