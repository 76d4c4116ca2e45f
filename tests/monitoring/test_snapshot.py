from __future__ import annotations

import json
import os

from django_pooled_pg.monitoring.snapshot import process_snapshot
from tests.monitoring.members import DATABASES
from tests.support.processes import run_script


def test_names_this_process() -> None:
    snapshot = process_snapshot()
    assert (snapshot["version"], snapshot["pid"], snapshot["parent_pid"]) == (
        1,
        os.getpid(),
        os.getppid(),
    )


def test_tells_pools_but_no_connection_parameters() -> None:
    databases = {
        "default": {
            **DATABASES["default"],
            "USER": "secret-user",
            "HOST": "secret-host",
            "OPTIONS": {"passfile": "secret-file", "pool": {"max_size": 3, "name": "web"}},
        }
    }
    out = run_script(
        """
from django_pooled_pg.monitoring.snapshot import process_snapshot
connection.pool
print(json.dumps(process_snapshot()))
""",
        databases,
    )
    (pool,) = json.loads(out)["pools"]
    assert (pool["alias"], pool["name"], pool["max_size"]) == ("default", "web", 3)
    assert (pool["borrows"], pool["wait"]["total"]) == (0, 0.0)
    assert "secret" not in out
    assert "sesame" not in out


def test_a_forked_child_has_its_own_clock_and_parent() -> None:
    run_script(
        """
from django_pooled_pg.monitoring.snapshot import process_snapshot
before = process_snapshot()
if (child := os.fork()) == 0:
    after = process_snapshot()
    ok = after["started"] > before["started"] and after["parent_pid"] == before["pid"]
    os._exit(0 if ok and after["pid"] == os.getpid() != before["pid"] else 1)
assert os.waitpid(child, 0)[1] == 0
assert process_snapshot()["started"] == before["started"]
""",
        DATABASES,
    )
