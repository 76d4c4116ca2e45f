"""Measures clients that leave: what happens to those who stay, and to the server."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from .children import ChildError, by_turns
from .contestants import DJANGO, OURS
from .figures import Case, Figure, Outcome
from .plan import Bench
from .servers import observer
from .sites import HOST, Site, site

WORKERS, THREADS, SIZE = 2, 16, 4
LEAVING, STAYING = 60, 8
# Seconds: how long the query takes and the site is watched; when those who leave do so; and within
# which time those who stay want an answer.
SECONDS, PATIENCE, SOON = 10.0, 0.2, 1.0
PAUSE = 0.05
# By then, a site has done whatever it does about work that nobody waits for.
AT_MOST = 20 * SECONDS

MIDDLEWARE = "django_pooled_pg.middleware.CancelAbandonedMiddleware"


def abandoned(bench: Bench) -> Iterator[Case]:
    """clients that leave while long queries run for them, and others that stay"""
    bench.say("abandoned")
    name = (
        f"{LEAVING} clients leave after {PATIENCE * 1000:.0f} ms, {STAYING} stay; "
        f"{WORKERS} workers with {THREADS} threads on {SIZE} connections"
    )
    figures = (
        Figure("answered", "% answered within 1 s"),
        Figure("asked", "pages asked for", 0),
        Figure("idle_s", "s until idle", 2),
    )
    case = Case("abandoned", name, figures, DJANGO.key)
    with ExitStack() as stack:
        sites = {}
        for contestant in bench.contestants((DJANGO, OURS)):
            outcome = case.outcomes[contestant.key] = Outcome()
            middleware = [MIDDLEWARE] if contestant.app else []
            try:
                sites[contestant.key] = stack.enter_context(
                    site(
                        Site(
                            contestant, bench.servers.main,
                            workers=WORKERS, threads=THREADS, size=SIZE, middleware=middleware,
                        )
                    )
                )  # fmt: skip
            except ChildError as ex:
                outcome.error = str(ex)
        by_turns(
            case.outcomes,
            max(1, bench.rounds // 30),
            lambda key: _turn(bench, sites[key], SECONDS * bench.scale),
        )
    yield case


def _turn(bench: Bench, site: Site, seconds: float) -> dict[str, float]:
    leaving = [threading.Thread(target=_leave, args=(site, seconds)) for _ in range(LEAVING)]
    for thread in leaving:
        thread.start()
    time.sleep(PATIENCE)
    left_at = time.monotonic()
    answered: list[bool] = []
    staying = [
        threading.Thread(target=_stay, args=(site, left_at + seconds, answered))
        for _ in range(STAYING)
    ]
    for thread in staying:
        thread.start()
    idle_at = left_at
    with observer(bench.servers.main) as observing:
        sql = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active' "
            "AND query LIKE 'SELECT pg_sleep%%'"
        )
        # By then, the next of those who wait has begun.
        while time.monotonic() < max(idle_at + SOON, left_at + seconds):
            row = observing.execute(sql, [site.application_name]).fetchone()
            if row != (0,):
                idle_at = time.monotonic()
            if idle_at - left_at > AT_MOST:
                raise ChildError(f"its sessions aren't idle after {AT_MOST:.0f} s")
            time.sleep(0.02)
    for thread in (*leaving, *staying):
        thread.join()
    return {
        "answered": 100 * sum(answered) / max(1, len(answered)),
        "asked": len(answered),
        "idle_s": idle_at - left_at,
    }


def _leave(site: Site, seconds: float) -> None:
    with contextlib.closing(socket.create_connection((HOST, site.port))) as client:
        client.sendall(f"GET /long?seconds={seconds} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        time.sleep(PATIENCE)


def _stay(site: Site, until: float, answered: list[bool]) -> None:
    """Ask for one page after another; give up any that doesn't come soon."""
    while time.monotonic() < until:
        began = time.monotonic()
        with contextlib.closing(
            http.client.HTTPConnection(HOST, site.port, timeout=SOON)
        ) as client:
            try:
                client.request("GET", "/health")
                is_well = client.getresponse().status == 200
            except OSError:
                is_well = False
        answered.append(is_well and time.monotonic() - began <= SOON)
        time.sleep(PAUSE)
