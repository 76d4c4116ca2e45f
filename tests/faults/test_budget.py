"""Processes of one host share their connections, and never have more than the budget."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from testproject.embedded import Cluster
from tests.monitoring.members import short_folder
from tests.support.budgeted import ROLE, Host, Process, Watch, host
from tests.support.waiting import wait_until

pytestmark = pytest.mark.faults

BUDGET = 8


@pytest.fixture
def limit(superuser: psycopg.Connection[Any], server: Cluster) -> Iterator[int]:
    """The server enforces the budget, too."""
    hba = server.data / "pg_hba.conf"
    line = f"host all {ROLE} 127.0.0.1/32 trust\n"
    if line not in hba.read_text():
        hba.write_text(line + hba.read_text())
        superuser.execute("SELECT pg_reload_conf()")
        superuser.execute(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {BUDGET}")
    superuser.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT {BUDGET}")
    return BUDGET


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def site(server: Cluster, limit: int, folder: Path) -> Iterator[Host]:
    with host(folder, server.port) as site:
        yield site


@pytest.fixture
def watch(superuser: psycopg.Connection[Any]) -> Watch:
    return Watch(superuser)


def test_a_busy_process_gets_what_its_siblings_do_not_use(site: Host, watch: Watch) -> None:
    first, second = site.start(2, budget=BUDGET)
    first.hold(BUDGET)
    assert watch.sessions() == BUDGET
    first.free()
    waits = second.hold(BUDGET - 1)
    print(sorted(waits))
    assert first.look()["size"] == 1  # min_size
    assert second.look()["size"] == BUDGET - 1
    assert watch.sessions() == BUDGET
    assert max(waits) < 2
    assert [first.end(), second.end()] == ["", ""]
    watch.until(0)


def test_two_busy_processes_settle_at_their_fair_shares(site: Host, watch: Watch) -> None:
    first, second = site.start(2, budget=BUDGET)
    first.begin("load", 12, 6)
    wait_until(lambda: watch.sessions() == BUDGET)
    second.begin("load", 12, 4)
    results = [second.answer(), first.answer()]
    shares = sorted(each["held"] for each in first.look()["members"])
    assert [each["failed"] for each in results] == [0, 0]
    assert watch.most <= BUDGET
    print(results, shares, first.look()["connects"], second.look()["connects"])
    # What each had to open: no thrash.
    assert first.look()["connects"] + second.look()["connects"] < 3 * BUDGET


def test_a_process_that_has_none_gets_the_next_that_is_returned(site: Host, watch: Watch) -> None:
    first = site.one(budget=BUDGET)
    first.hold(BUDGET)
    second = site.one(budget=BUDGET)
    second.begin("hold", 1)
    wait_until(lambda: any(each["wanted"] for each in first.look()["members"]))
    first.free(1)
    ((_, error),) = second.answer()
    assert error is None
    assert first.look()["size"] == BUDGET - 1
    assert watch.sessions() == BUDGET


def test_killed_processes_leave_their_slots(site: Host, watch: Watch) -> None:
    for _ in range(5):
        victim, heir = site.start(2, budget=BUDGET)
        victim.hold(BUDGET)
        heir.begin("hold", BUDGET)
        victim.kill()
        assert [error for _, error in heir.answer() if error] == []
        assert watch.sessions() == BUDGET
        heir.kill()


def test_more_processes_than_slots_have_them_in_turn(site: Host, watch: Watch) -> None:
    processes = site.start(5, budget=3)
    for each in processes:
        each.begin("load", 2, 8)
    watch.during(8)
    results = [each.answer() for each in processes]
    print(results)
    assert watch.most <= 3
    assert [each["failed"] for each in results] == [0] * 5
    assert min(each["done"] for each in results) > 0
    assert max(each["longest"] for each in results) < 5


def asks_beside(works: Process, other: Process) -> float:
    """Let one work and another ask; return how long that took."""
    works.begin("load", 4, 6, 0.01)
    (waited,) = other.hold(1)
    other.free()
    assert works.answer()["failed"] == 0
    return waited


def test_nobody_starves_behind_borrowers_that_keep_what_they_have(site: Host) -> None:
    keeps, works, asks = site.start(3, budget=2)
    keeps.hold(1)
    works.hold(1)
    works.free()
    assert asks_beside(works, asks) < 5


@pytest.mark.parametrize("at", ["rest", "work", "giving"])
def test_others_go_on_while_a_process_is_stopped(site: Host, at: str) -> None:
    works, stopped, asks = site.start(3, budget=4)
    works.hold(1)
    stopped.hold(3)
    if at == "rest":
        stopped.free()
    if at == "giving":
        assert stopped.do("lock_giving")
    works.free()
    os.kill(stopped.pid, signal.SIGSTOP)
    assert asks_beside(works, asks) < 5


def test_two_folders_share_the_server(site: Host, server: Cluster, watch: Watch) -> None:
    """As on two hosts: whoever comes second isn't refused for as long as the first idles."""
    first = site.one(budget=BUDGET)
    first.hold(BUDGET)
    first.free()
    with short_folder() as folder, host(folder, server.port) as other_host:
        waits = other_host.one(budget=BUDGET).hold(1)
        print(waits)
        assert waits[0] < 3
        assert watch.sessions() <= BUDGET


def test_load_that_moves_takes_its_connections_along(site: Host, watch: Watch) -> None:
    processes = site.start(3, budget=BUDGET)
    waits: list[float] = []
    for each in processes:
        each.hold(1)
        each.free()
    for busy in [*processes, *processes]:
        waits.append(max(busy.hold(BUDGET - 2)))
        wait_until(lambda: watch.sessions() == BUDGET, message="two siblings keep one each")
        busy.free()
        busy.do("load", 6, 1.5)
    assert watch.most == BUDGET
    print(sorted(waits))


def test_a_rolling_restart_fails_nobody(site: Host, watch: Watch) -> None:
    old = site.start(2, budget=BUDGET)
    for each in old:
        each.begin("load", 6, 6)
    for generation in range(2):
        young = site.start(2, budget=BUDGET)
        for each in young:
            each.begin("load", 6, 6 if generation == 0 else 2)
        for each in old:
            assert each.answer()["failed"] == 0
            assert each.end() == ""
        old = young
    for each in old:
        assert each.answer()["failed"] == 0
    assert watch.sessions() <= BUDGET


def test_a_forked_child_has_slots_of_its_own(site: Host, watch: Watch) -> None:
    parent = site.one(budget=2)
    parent.hold(1)
    parent.begin("fork")
    assert parent.answer() == 0
    assert parent.look()["slots"] == 1
    assert site.one(budget=2).hold(1)


def test_a_child_does_not_give_its_parents_slots_up(site: Host, watch: Watch) -> None:
    parent = site.one(budget=2)
    parent.hold(2)
    assert parent.do("fork_idle") == 0  # it closes the file that it inherited
    assert parent.look()["slots"] == 2
    other = site.one(budget=2, timeout=1)
    ((_, error),) = other.do("hold", 1)
    assert "no connection was free within 1 s" in error


def test_a_child_does_not_keep_its_parents_place(site: Host) -> None:
    parent = site.one(budget=2)
    parent.do("fork_while_it_joins")
    parent.kill()
    heir = site.one(budget=2)
    assert max(heir.hold(2)) < 5
    assert [each["index"] for each in heir.look()["members"]] == [0]


@pytest.mark.parametrize("kind", ["pool", "null"])
def test_who_waits_in_vain_learns_who_has_the_slots(site: Host, kind: str) -> None:
    first = site.one(budget=2, **{"class": kind})
    first.hold(2)
    second = site.one(budget=2, timeout=1, **{"class": kind})
    ((seconds, error),) = second.do("hold", 1)
    assert 1 <= seconds < 3
    port = site.server["PORT"]
    assert f"Of the 2 connections of the budget for 127.0.0.1:{port} as books" in error
    assert f"python ({first.pid}) has 2; 1 processes want more" in error


def test_a_null_pool_holds_a_slot_while_it_has_a_connection(site: Host, watch: Watch) -> None:
    first, second = site.start(2, budget=3, **{"class": "null"})
    assert max(first.hold(3)) < 5
    second.begin("hold", 1)
    first.free()
    ((_, error),) = second.answer()
    assert error is None
    second.free()
    results = []
    for each in (first, second):
        each.begin("load", 6, 2)
    watch.during(2)
    results = [each.answer() for each in (first, second)]
    assert [each["failed"] for each in results] == [0, 0]
    assert min(each["done"] for each in results) > 10
    watch.until(0)


def test_the_file_may_be_deleted(site: Host, watch: Watch, folder: Path) -> None:
    first = site.one(budget=3)
    first.hold(2)
    (file,) = folder.glob("budget-*")
    file.unlink()
    second = site.one(budget=3, timeout=1)
    second.hold(1)
    ((_, error),) = second.do("hold", 1)
    assert "has 2" in error
    assert watch.sessions() == 3
    first.free()
    assert "the file of its budget for" in first.end()


def test_the_smallest_budget_counts(site: Host) -> None:
    first = site.one(budget=4)
    first.hold(1)
    second = site.one(budget=2, timeout=1)
    second.hold(1)
    ((_, error),) = second.do("hold", 1)
    assert "Of the 2 connections" in error
    wait_until(lambda: len(first.look()["members"]) == 2)
    said = second.end()
    assert "processes have different budgets; the smallest counts: 2" in said


def test_a_budget_can_be_made_smaller_and_larger(site: Host, watch: Watch) -> None:
    first, second = site.start(2, budget=6)
    first.hold(4)
    second.hold(2)
    for each in (first, second):
        each.do("steer", "resize", None, None, 3)
    first.free(3)
    watch.until(3)
    for each in (first, second):
        each.do("steer", "resize", None, None, 6)
    second.hold(2)
    assert 5 <= watch.sessions() <= 6


def test_a_pool_that_is_closed_or_paused_leaves_its_slots(site: Host, watch: Watch) -> None:
    first, second = site.start(2, budget=3, min_size=0)
    for name in ("close", "pause"):
        first.hold(3)
        first.free()
        first.do("steer", name)
        assert max(second.hold(3)) < 5
        second.free()
        first.do("steer", "resume")
    first.do("steer", "drain")
    assert max(first.hold(2)) < 5


def test_a_folder_that_cannot_be_used_is_told(site: Host, folder: Path) -> None:
    folder.chmod(0o755)
    process = site.one(budget=2, timeout=5)
    ((_, error),) = process.do("hold", 1)
    assert error.startswith("OperationalError: Pool 'default' can't connect: it can't use the file")
    assert f"Run: chmod 700 '{folder}'" in error
    folder.chmod(0o700)
    process.hold(2)  # as soon as it can be used
