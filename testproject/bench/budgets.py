"""Measures processes that share a server's limit: by a budget, by division, or by PgBouncer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from ..cluster import SUPERUSER, Cluster
from ..database import from_url
from ..ports import free_port
from .children import Child, ChildError
from .contestants import DJANGO, OURS, TIMEOUT, Contestant, Settings
from .figures import Case, Figure, Outcome
from .plan import CPU, NEEDED, RATE, Bench
from .servers import connections, observer

PROCESSES, THREADS, ALLOWED = 4, 16, 16
# How long a statement takes in the server, and how long a thread of a less busy process idles.
STATEMENT, THINK = 0.02, 0.9
PERIOD = 5.0
ROLE = "bench_budget"


def _ours(**pool: Any) -> dict[str, Any]:
    return {"ENGINE": "django_pooled_pg", "OPTIONS": {"pool": {"timeout": TIMEOUT, **pool}}}


def _budget(size: int) -> Settings:
    return _ours(budget=ALLOWED)


def _divided(size: int) -> Settings:
    return _ours(max_size=ALLOWED // PROCESSES)


BUDGET = replace(OURS, key="budget", label="django_pooled_pg, a budget of 16", settings=_budget)
DIVIDED = replace(OURS, key="divided", label="django_pooled_pg, max_size 4", settings=_divided)
DJANGOS = replace(DJANGO, key="django_divided", label="Django's pool, max_size 4")
BOUNCED = replace(
    OURS,
    key="pgbouncer",
    label="PgBouncer, 16 server connections",
    settings=lambda size: _ours(max_size=THREADS),
)
CONTESTANTS = (DIVIDED, BUDGET, DJANGOS, BOUNCED)


def budget(bench: Bench) -> Iterator[Case]:
    """4 processes that share the 16 connections that a server allows"""
    with server() as address:
        yield _skewed(bench, address)
        yield _moving(bench, address)


def _skewed(bench: Bench, address: Settings) -> Case:
    figures = (
        RATE,
        Figure("wait_p50_ms", "wait p50 ms"),
        Figure("wait_p99_ms", "wait p99 ms", ratio=True),
        CPU,
        Figure("pooler_us", "PgBouncer's CPU us"),
        NEEDED,
    )
    name = f"{PROCESSES} processes of {THREADS} threads, of which one is busy"
    case = Case("budget", name, figures, DIVIDED.key)
    case.note = "Of the busy process; waits are what a request takes beyond its statement's 20 ms."
    case.outcomes = {each.key: Outcome() for each in CONTESTANTS}
    for _ in range(bench.few()):
        for each in CONTESTANTS:
            bench.say(f"budget: {each.label}")
            outcome = case.outcomes[each.key]
            if not outcome.error:
                try:
                    outcome.add(_one_is_busy(bench, each, address))
                except ChildError as ex:
                    outcome.error = str(ex)
    return case


def _one_is_busy(bench: Bench, contestant: Contestant, address: Settings) -> dict[str, float]:
    with ExitStack() as stack:
        pooler = None
        # The observer connects as the superuser, who counts for nobody's limit.
        observing = stack.enter_context(observer({**address, "USER": SUPERUSER}))
        if contestant is BOUNCED:
            pooler, address = stack.enter_context(_pgbouncer(address))
        children = start(stack, contestant, address)
        seconds = 6.0 * bench.scale
        with ThreadPoolExecutor(PROCESSES) as executor:
            jobs = [
                executor.submit(
                    child.ask, "share", threads=THREADS, seconds=seconds, statement=STATEMENT,
                    think=0.0 if child is children[0] else THINK,
                )
                for child in children
            ]  # fmt: skip
            before = _cpu(pooler)
            most = 0
            while not all(job.done() for job in jobs):
                most = max(most, connections(observing, children[0].application_name))
                time.sleep(0.05)
            figures = jobs[0].result()
            requests = sum(job.result()["requests"] for job in jobs)
        figures["connections"] = most
        if pooler is not None:
            figures["pooler_us"] = (_cpu(pooler) - before) / requests * 1e6
    return figures


def _moving(bench: Bench, address: Settings) -> Case:
    wanted = ALLOWED - PROCESSES + 1
    figures = (
        Figure("first_ms", f"until it had {wanted} connections, ms"),
        Figure("first_p95_ms", "p95 of these ms"),
    )
    name = f"load that moves from process to process every {PERIOD:g} s"
    case = Case("budget", name, figures, BUDGET.key)
    case.outcomes = {BUDGET.key: (outcome := Outcome())}
    with ExitStack() as stack:
        children = start(stack, BUDGET, address)
        took = []
        for move in range(PROCESSES + 4 * bench.few()):
            child = children[move % PROCESSES]
            figures_of = child.ask(
                "burst", threads=THREADS, seconds=PERIOD * bench.scale, statement=STATEMENT,
                wanted=wanted,
            )  # fmt: skip
            if move >= PROCESSES:  # each process has had its turn
                took.append(figures_of["first_ms"])
                bench.say(f"budget: move {move}: {took[-1]:.0f} ms")
        for each in took:
            outcome.add({"first_ms": each})
        outcome.add({"first_p95_ms": sorted(took)[max(0, round(len(took) * 0.95) - 1)]})
    return case


def start(stack: ExitStack, contestant: Contestant, address: Settings) -> list[Child]:
    def start(number: int) -> Child:
        return Child(contestant, address, ALLOWED // PROCESSES)

    with ThreadPoolExecutor(2) as executor:
        children = list(executor.map(start, range(PROCESSES)))
    for child in children:
        stack.callback(child.close)
    return children


@contextmanager
def server() -> Iterator[Settings]:
    """A server that allows a role no more."""
    with Cluster() as cluster:
        with psycopg.connect(cluster.dsn, autocommit=True) as superuser:
            superuser.execute(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {ALLOWED}")
        (cluster.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        cluster.restart()
        yield {**from_url(cluster.url), "USER": ROLE}


@contextmanager
def _pgbouncer(address: Settings) -> Iterator[tuple[int, Settings]]:
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise ChildError("PgBouncer isn't installed")
    port = str(free_port())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        users, ini = Path(folder, "users.txt"), Path(folder, "pgbouncer.ini")
        users.write_text(f'"{ROLE}" ""\n')
        ini.write_text(
            f"[databases]\n* = host={address['HOST']} port={address['PORT']} timezone=UTC\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
            f"default_pool_size = {ALLOWED}\nmax_client_conn = 500\n"
            "ignore_startup_parameters = extra_float_digits\nlog_connections = 0\n"
            "log_disconnections = 0\n"
        )
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        quiet = subprocess.DEVNULL
        process = subprocess.Popen([program, *user, str(ini)], stdout=quiet, stderr=quiet)
        through = {**address, "PORT": port, "DISABLE_SERVER_SIDE_CURSORS": True}
        try:
            for _ in range(100):
                try:
                    observer({**through, "OPTIONS": {}}).close()
                    break
                except psycopg.Error:
                    time.sleep(0.05)
            yield process.pid, through
        finally:
            process.terminate()
            process.wait(10)


def _cpu(pid: int | None) -> float:
    """Return the seconds of CPU time that a process has used."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
