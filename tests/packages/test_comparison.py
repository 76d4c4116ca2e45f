"""What docs/comparison.md says about ways to get connections, really provoked with each of them.

Each works in a process of its own (see contender.py), with pools of one connection and a time
limit of one second.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from testproject.ports import free_port
from tests.packages import contender
from tests.support.pgbouncer import PgBouncer
from tests.support.processes import ROOT, environment

Settings = dict[str, Any]

DJANGO = "django.db.backends.postgresql"
GEVENTPOOL = "django_db_geventpool.backends.postgresql_psycopg3"


def pool(engine: str, **changes: Any) -> Callable[[int], Settings]:
    def settings(size: int) -> Settings:
        return {
            "ENGINE": engine,
            "OPTIONS": {"pool": {"min_size": size, "max_size": size, "timeout": 1}},
            **changes,
        }

    return settings


def geventpool(size: int) -> Settings:
    return {"ENGINE": GEVENTPOOL, "OPTIONS": {"MAX_CONNS": size, "pool": False}}


def connection_pool(size: int) -> Settings:
    options = {"POOL_SIZE": size, "MAX_OVERFLOW": 0, "TIMEOUT": 1}
    return {"ENGINE": "dj_db_conn_pool.backends.postgresql", "POOL_OPTIONS": options}


def persistent(size: int) -> Settings:
    return {"ENGINE": DJANGO, "CONN_MAX_AGE": None}


# For a pool's size: what each adds to the address of the server.
CONTENDERS: dict[str, Callable[[int], Settings]] = {
    "ours": pool("django_pooled_pg"),
    "django": pool(DJANGO),
    "django, health checks": pool(DJANGO, CONN_HEALTH_CHECKS=True),
    "persistent": persistent,
    "persistent, health checks": lambda size: {**persistent(size), "CONN_HEALTH_CHECKS": True},
    "geventpool": geventpool,
    "connection-pool": connection_pool,
    "real-pool": pool("django_pg_real_pool"),
    "pgbouncer": persistent,
}
MODULES = {
    "geventpool": "django_db_geventpool",
    "connection-pool": "dj_db_conn_pool",
    "real-pool": "django_pg_real_pool",
}

ALL = set(CONTENDERS)
ON_DJANGOS_POOL = {"django", "django, health checks", "real-pool"}
PERSISTENT = {"persistent", "persistent, health checks"}

SERVED = r"served"
TIMED_OUT = r"django\.db\.utils\.OperationalError: couldn't get a connection after 1\.00 sec"
ALCHEMYS_LIMIT = r"sqlalchemy\.exc\.TimeoutError: QueuePool limit of size 1 overflow 0 reached.*"
WAITS_ON = r"waits without a limit"
ENDED = r"django\.db\.utils\.OperationalError: terminating connection due to administrator.*"
REFUSED = r"django\.db\.utils\.OperationalError: connection failed: .* refused.*"
OURS = (
    r"django_pooled_pg\.pooling\.errors\.PoolExhausted: Pool 'exhausted' .* Held longest by: "
    r"holder .* now at .*contender\.py:\d+ in hold.*"
)

# PgBouncer has one server connection for all situations, and waits long for a server that is down.
NOT_ASKED = {(situation, "pgbouncer") for situation in ("fork", "same_request", "down")}

# For each situation of contender.py: what becomes of whom.
SAID: dict[str, dict[str, set[str]]] = {
    "fork": {r"its own": {"ours"}, r"its parent's": ALL - {"ours"}},
    "thread_ends": {
        TIMED_OUT: {"django", "django, health checks"},
        ALCHEMYS_LIMIT: {"connection-pool"},
        SERVED: {"ours", "geventpool", "real-pool", "pgbouncer"} | PERSISTENT,
    },
    "thread_lives": {
        TIMED_OUT: {"django", "django, health checks"},
        ALCHEMYS_LIMIT: {"connection-pool"},
        WAITS_ON: {"geventpool"},
        SERVED: {"ours", "real-pool", "pgbouncer"} | PERSISTENT,
    },
    "next_request": {r"4MB": {"ours"}, r"5MB": ALL - {"ours"}},
    "same_request": {r"4MB, 5MB": {"real-pool"}, r"5MB": ALL - {"real-pool"}},
    "terminated": {
        ENDED: {"django", "real-pool", "persistent"},
        SERVED: ALL - {"django", "real-pool", "persistent"},
    },
    "down": {
        REFUSED: {"ours", "geventpool", "connection-pool"} | PERSISTENT,
        TIMED_OUT: ON_DJANGOS_POOL,
    },
    "exhausted": {
        OURS: {"ours"},
        TIMED_OUT: ON_DJANGOS_POOL,
        ALCHEMYS_LIMIT: {"connection-pool"},
        WAITS_ON: {"geventpool"},
        r"django\.db\.utils\.OperationalError: query_wait_timeout.*": {"pgbouncer"},
        SERVED: PERSISTENT,
    },
}
EXPECTED = [
    (situation, name, said)
    for situation, answers in SAID.items()
    for said, names in answers.items()
    for name in sorted(names)
    if (situation, name) not in NOT_ASKED
]

Answers = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def answers(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Return what became of a contender in each situation; each is run once."""
    from django.db import connection

    settings = connection.settings_dict
    address = {key: settings[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    known: dict[str, dict[str, str]] = {}

    def answers(name: str) -> dict[str, str]:
        if (module := MODULES.get(name)) is not None:
            pytest.importorskip(module, reason=f"{module} isn't installed: make test-packages")
        if name not in known:
            if name == "pgbouncer":
                folder = tmp_path_factory.mktemp("pgbouncer")
                limits = {"default_pool_size": 1, "query_wait_timeout": 1}
                with PgBouncer(folder, address, pool_mode="transaction", **limits) as pgbouncer:
                    known[name] = run(name, address, pgbouncer.settings)
            else:
                known[name] = run(name, address, {})
        return known[name]

    return answers


def run(name: str, server: Settings, way: Settings) -> dict[str, str]:
    def database(situation: str) -> Settings:
        added = CONTENDERS[name](2 if situation == "same_request" else 1)
        port = {"PORT": str(free_port())} if situation == "down" else {}
        return {**server, **way, **port, **added}

    databases = {situation: database(situation) for situation in contender.SITUATIONS}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.packages.contender",
            *(["gevent"] if name == "geventpool" else []),
        ],
        # Connections that nobody closed are what some of it is about.
        env=environment(
            SETTINGS=json.dumps({"DATABASES": {"default": {}, **databases}, "USE_TZ": True}),
            SERVER=json.dumps(server),
            PYTHONDEVMODE="",
            PYTHONWARNINGS="ignore",
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(("situation", "name", "said"), EXPECTED)
def test_what_becomes_of_it(answers: Answers, situation: str, name: str, said: str) -> None:
    assert re.fullmatch(said, answers(name)[situation])


def test_every_situation_is_told_of_everybody() -> None:
    told = {(situation, name) for situation, name, _ in EXPECTED}
    everything = {(situation, name) for situation in contender.SITUATIONS for name in ALL}
    assert everything - told == NOT_ASKED


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("geventpool", "django_db_geventpool.backends.postgresql_psycopg2.base"),
        ("connection-pool", "dj_db_conn_pool.backends.mysql.base"),
        ("connection-pool", "dj_db_conn_pool.backends.oracle.base"),
        ("real-pool", "django_pg_real_pool.telemetry"),
    ],
)
def test_what_others_have_more(name: str, module: str) -> None:
    pytest.importorskip(
        MODULES[name], reason=f"{MODULES[name]} isn't installed: make test-packages"
    )
    assert importlib.util.find_spec(module)
