"""Processes of one host share their connections, and never have more than the budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from testproject.embedded import Cluster
from tests.monitoring.members import short_folder
from tests.support.budgeted import ROLE, Host, Watch, host
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
    ((seconds, error),) = second.answer()
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
