"""Fixtures for faults: a server that may be stopped, and sites whose requests share a pool."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from django.db import connection

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling import registry
from django_pooled_pg.pooling.pool import Pool
from testproject.embedded import Cluster
from tests.support.queries import backend_pid, hold
from tests.support.waiting import wait_until

# Who may come in, and how; anybody else is turned away.
PG_HBA = """\
host    all password    127.0.0.1/32 scram-sha-256
hostssl all tls_only    127.0.0.1/32 trust
host    all postgres    127.0.0.1/32 trust
"""
ROLES = """\
CREATE ROLE password LOGIN PASSWORD 'right-password';
CREATE ROLE tls_only LOGIN;
"""

# Seconds after which a request won't be answered any more: longer than the sites' timeout.
HANGS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: the server session that answered it, or the error."""

    seconds: float
    pid: int | None = None
    error: Exception | None = None


class Site:
    """Requests that share one pool: each has a wrapper of its own, like a web server's thread."""

    _numbers = itertools.count()

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.alias = f"fault{next(self._numbers)}"

    def wrapper(self) -> DatabaseWrapper:
        return DatabaseWrapper(self.settings, self.alias)

    @property
    def pool(self) -> Pool:
        pool = self.wrapper().pool
        assert pool is not None
        return pool

    def request(self) -> Answer:
        """Borrow, ask the server something, return."""
        wrapper = self.wrapper()
        started = time.monotonic()
        try:
            pid = backend_pid(wrapper)
        except Exception as ex:
            return Answer(time.monotonic() - started, error=ex)
        finally:
            wrapper.close()
        return Answer(time.monotonic() - started, pid)

    def one_by_one(self, count: int) -> list[Answer]:
        return [self.request() for _ in range(count)]

    def at_once(self, count: int) -> list[Answer]:
        """Run that many requests in as many threads, which all start together."""
        barrier = threading.Barrier(count)
        answers: list[Answer] = []

        def run() -> None:
            barrier.wait(10)
            answers.append(self.request())

        # Daemons, and not an executor's: a request that hangs must not hang the tests.
        threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + HANGS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert len(answers) == count, f"not all answered within {HANGS:g} s"
        return answers

    def idle(self, count: int) -> set[int]:
        """Bring the pool to `count` idle connections; return the pids of their sessions."""
        wrappers = [self.wrapper() for _ in range(count)]
        pids = {hold(wrapper) for wrapper in wrappers}
        for wrapper in wrappers:
            wrapper.close()
        wait_until(lambda: self.pool.statistics().idle == count)
        return pids


MakeSite = Callable[..., Site]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        (cluster.data / "pg_hba.conf").write_text(PG_HBA)
        cluster.restart()
        with psycopg.connect(cluster.dsn, autocommit=True) as superuser:
            superuser.execute(ROLES)
        yield cluster


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Cluster]:
    """A server of this module's own, running. Tests may stop it and change its settings."""
    settings = dict(cluster.settings)
    cluster.start()
    yield cluster
    if cluster.settings != settings:
        cluster.settings = settings
        cluster.stop("immediate")


@pytest.fixture
def make_site(server: Cluster, django_db_blocker: Any) -> Iterator[MakeSite]:
    """Make sites on the server: `make_site(pool={...}, OPTIONS={...}, PORT=...)`."""
    made: list[Site] = []

    def make(pool: dict[str, Any] | None = None, **changes: Any) -> Site:
        settings = {
            **registry.snapshot(connection.settings_dict),
            "HOST": "127.0.0.1",
            "PORT": str(server.port),
            "USER": "postgres",
            "PASSWORD": "",
            "NAME": "postgres",
            "OPTIONS": {},
            **changes,
        }
        # So long that waiting for it shows.
        settings["OPTIONS"] = {**settings["OPTIONS"], "pool": {"timeout": 10, **(pool or {})}}
        made.append(Site(settings))
        return made[-1]

    with django_db_blocker.unblock():
        yield make
        for site in made:
            registry.close(site.alias)


@pytest.fixture
def superuser(server: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the server that no pool knows of."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        yield connection
