"""Tells whether this process can serve requests that need its pools; borrows nothing.

For orchestrators and load balancers, and thus for anybody: it reveals aliases and types of errors,
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from ..pooling import registry
from ..pooling.pool import Pool
from .asking import Answer, asking

View = Callable[[HttpRequest], HttpResponse]


def _in_no_transaction(view: View) -> View:
    # For each alias: with ATOMIC_REQUESTS the request would first wait for a connection.
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@_in_no_transaction
@login_not_required
@cache_control(private=True, no_store=True)  # `private` keeps Django's own cache away
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200, or 503 if the pools of this process can't serve; `?query` asks their servers.

    `?database=ALIAS`, once or more, restricts this to these databases.
    """
    aliases = request.GET.getlist("database")
    if not set(aliases) <= set(connections):
        return JsonResponse({"error": "there is no such database"}, status=404)
    pools = readiness(aliases, query="query" in request.GET)
    is_ready = all(each["ready"] for each in pools.values())
    response = JsonResponse({"ready": is_ready, "pools": pools}, status=200 if is_ready else 503)
    if request.method == "HEAD":
        # Django leaves the content, and gunicorn logs that each time.
        response["Content-Length"] = str(len(response.content))
        response.content = b""
    return response


def readiness(aliases: Collection[str] = (), *, query: bool = False) -> dict[str, dict[str, Any]]:
    """Return what is known of the pools of this process, by alias (`aliases`, or all).

    - `ready`: whether requests can expect to get a connection, perhaps after a wait;
    - `paused`, `exhausted`: whether a pool is paused, or all it may have is in use and somebody
      waits;
    - `error`: the type of the error that keeps it from connecting, or `None`.

    If an alias alternates between settings, it has several pools, and one that works is enough.
    With `query`, each pool's server is asked, unless the pool is paused; this takes at most
    `PATIENCE_SECONDS`.
    """
    pools = [pool for pool in registry.pools() if not aliases or pool.alias in aliases]
    asked = [pool for pool in pools if pool.supply.gate.is_open()] if query else []
    answers = asking.answers(asked)
    found: dict[str, dict[str, Any]] = {}
    for pool in pools:
        state = _state(pool, answers.get(pool))
        before = found.get(pool.alias)
        found[pool.alias] = state if before is None else _together(before, state)
    for state in found.values():
        del state["works"]
    return found


def _state(pool: Pool, answer: Answer | None) -> dict[str, Any]:
    s = pool.statistics()
    error = _error(pool, answer)
    # By now, those who came when the pause began are being turned away. Until then it costs nobody
    # a request, which is the point of a pause.
    given_up = pool.supply.gate.closed_for() >= s.timeout
    is_ready = error is None and not given_up
    return {
        "ready": is_ready,
        "paused": s.paused,
        "exhausted": 0 < s.max_size <= s.in_use and s.waiting > 0,
        "error": None if error is None else type(error).__name__,
        "works": is_ready and s.size > 0,
    }


def _error(pool: Pool, answer: Answer | None) -> BaseException | None:
    if answer is not None and answer.error is not None:
        return answer.error
    if (failed := pool.cut_off_by()) is None:
        return None
    error, at = failed
    last = asking.last(pool)
    if last is not None and last.error is None and last.at > at:
        return None  # the next borrower will connect
    # If this keeps requests away, nobody else would find out that the server is back.
    asking.ask(pool)
    return error


def _together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    works = one["works"] or other["works"]
    return {
        "ready": works or (one["ready"] and other["ready"]),
        "paused": one["paused"] or other["paused"],
        "exhausted": one["exhausted"] or other["exhausted"],
        "error": None if works else one["error"] or other["error"],
        "works": works,
    }
