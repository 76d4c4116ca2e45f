"""Measures async views under uvicorn, with more clients than connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from .. import traffic
from .children import ChildError, by_turns
from .contestants import DJANGO, OURS, OURS_TRANSACTION, TIMEOUT, Contestant, Settings
from .figures import Case, Figure, Outcome
from .plan import CPU, NEEDED, RATE, Bench
from .servers import connections, observer
from .sites import HOST, Site, site

SIZE = 10
MANY, FEW = 200, 8
# Three queries with 50 ms of something else in between; a single query.
PAGES = (
    ("three queries with 50 ms of waiting between them", "queries=3&pause=0.025"),
    ("one query", "queries=1&pause=0"),
)
BETWEEN = f"{MANY} clients on {SIZE} connections: {PAGES[0][0]}"
STREAMS = 60
LEAVING, NEXT = 40, 10
PATIENCE, LONG = 0.2, 5.0  # seconds


def _async_backend(size: int) -> Settings:
    pool = {"min_size": size, "max_size": size, "timeout": TIMEOUT}
    engine = "django_async_backend.db.backends.postgresql"
    return {"ENGINE": engine, "OPTIONS": {"pool": pool}}


AIO = replace(OURS, key="ours_aio", label="django_pooled_pg, aio.connection()")
BARE_ASYNC = replace(DJANGO, key="bare_async", label="psycopg's AsyncConnectionPool, bare")
ASYNC_BACKEND = Contestant(
    "async_backend",
    "django-async-backend",
    _async_backend,
    app="django_async_backend",
    module="django_async_backend",
    distribution="django-async-backend",
)
VPG = Contestant(
    "vpg",
    "django-vpg, async",
    lambda size: {
        "ENGINE": "django_vpg.backend",
        "OPTIONS": {"pool": {"min_size": size, "max_size": size, "timeout": TIMEOUT}},
    },
    app="django_async_backend",
    module="django_vpg",
    distribution="django-vpg[async]",
)
CONTESTANTS = (DJANGO, OURS, OURS_TRANSACTION, AIO, ASYNC_BACKEND, VPG, BARE_ASYNC)
# How each contestant's views query: see `async_views.WAYS`.
WAYS = {
    AIO.key: "aio",
    BARE_ASYNC.key: "bare",
    ASYNC_BACKEND.key: "async_backend",
    VPG.key: "async_backend",
}


class AsyncSite(Site):
    """One contestant's site, in uvicorn."""

    settings = "testproject.bench.async_settings"

    def command(self, workers: int, threads: int) -> list[str]:
        return [
            "uvicorn", "testproject.asgi:application", f"--host={HOST}", f"--port={self.port}",
            "--log-level=critical", "--lifespan=off", "--timeout-graceful-shutdown=1",
        ]  # fmt: skip


def asynchronous(bench: Bench) -> Iterator[Case]:
    """async views under uvicorn, with more clients than connections"""
    with ExitStack() as stack:
        sites: dict[str, Site] = {}
        errors: dict[str, str] = {}
        for contestant in bench.contestants(CONTESTANTS):
            try:
                started = AsyncSite(contestant, bench.servers.main, size=SIZE)
                sites[contestant.key] = stack.enter_context(site(started))
            except ChildError as ex:
                errors[contestant.key] = str(ex)
        for name, query in PAGES:
            for clients in (MANY, FEW):
                yield _pages(bench, sites, errors, clients, name, query)
        yield _streams(bench, sites, errors)
        yield _leaving(bench, sites, errors)


def _case(
    bench: Bench,
    name: str,
    figures: tuple[Figure, ...],
    sites: dict[str, Site],
    errors: dict[str, str],
) -> Case:
    bench.say(f"async: {name}")
    case = Case("async", name, figures, DJANGO.key)
    for key in (*sites, *errors):
        case.outcomes[key] = Outcome(error=errors.get(key, ""))
    return case


def _pages(
    bench: Bench,
    sites: dict[str, Site],
    errors: dict[str, str],
    clients: int,
    name: str,
    query: str,
) -> Case:
    figures = (
        RATE,
        CPU,
        Figure("p50_ms", "p50 ms"),
        Figure("p99_ms", "p99 ms"),
        Figure("errors", "errors", 0),
        NEEDED,
    )
    case = _case(bench, f"{clients} clients on {SIZE} connections: {name}", figures, sites, errors)
    with observer(bench.servers.main) as observing:

        def turn(key: str) -> dict[str, float]:
            each = sites[key]
            target = traffic.Target(path=f"/async/{WAYS.get(key, 'thread')}/page?{query}")
            before = each.cpu()
            result = traffic.run(
                HOST, each.port, [target], duration=3 * bench.scale, concurrency=clients
            )
            after = each.cpu()
            figures = {
                "rate": result.rate,
                "p50_ms": result.p50 * 1000,
                "p99_ms": result.p99 * 1000,
                "errors": result.errors,
                "connections": connections(observing, each.application_name),
            }
            if before is not None and after is not None:
                figures[CPU.key] = (after - before) / max(1, result.requests) * 1e6
            return figures

        by_turns(case.outcomes, max(1, bench.rounds // 10), turn)
    return case


def _streams(bench: Bench, sites: dict[str, Site], errors: dict[str, str]) -> Case:
    name = f"{STREAMS} clients of server-sent events, a query each second, on {SIZE} connections"
    figures = (Figure("served", "clients served at once", 0),)
    case = _case(bench, name, figures, sites, errors)

    def turn(key: str) -> dict[str, float]:
        path = f"/async/{WAYS.get(key, 'thread')}/events"
        return {"served": asyncio.run(_count_served(sites[key].port, path))}

    by_turns(case.outcomes, 1, turn)
    return case


async def _count_served(port: int, path: str) -> int:
    """Return how many of the clients get three events within 4 seconds."""

    async def one() -> bool:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            async with asyncio.timeout(4):
                for _ in range(3):
                    await reader.readuntil(b"data: done")
            return True
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return False
        finally:
            writer.close()

    return sum(await asyncio.gather(*(one() for _ in range(STREAMS))))


def _leaving(bench: Bench, sites: dict[str, Site], errors: dict[str, str]) -> Case:
    name = f"{LEAVING} clients leave a query of {LONG:.0f} s; then {NEXT} ask for one query"
    figures = (
        Figure("answered_s", "s until all are answered", 2),
        Figure("left", "statements left in the server", 0),
    )
    case = _case(bench, name, figures, sites, errors)
    with observer(bench.servers.main) as observing:

        def turn(key: str) -> dict[str, float]:
            each, way = sites[key], WAYS.get(key, "thread")
            asyncio.run(_leave(each.port, f"/async/{way}/long?seconds={LONG}"))
            time.sleep(PATIENCE)
            sql = (
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s "
                "AND state = 'active' AND query LIKE 'SELECT pg_sleep%%'"
            )
            row = observing.execute(sql, [each.application_name]).fetchone()
            began = time.monotonic()
            path = f"/async/{way}/page?queries=1&pause=0"
            asyncio.run(_ask(each.port, path))
            return {"answered_s": time.monotonic() - began, "left": row[0] if row else 0}

        by_turns(case.outcomes, 1, turn)
    return case


async def _leave(port: int, path: str) -> None:
    async def one() -> None:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await asyncio.sleep(PATIENCE)
        writer.close()

    await asyncio.gather(*(one() for _ in range(LEAVING)))


async def _ask(port: int, path: str) -> None:
    async def one() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await reader.read()
        writer.close()

    await asyncio.gather(*(one() for _ in range(NEXT)))
