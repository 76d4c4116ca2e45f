"""A site with the dashboard, and reports for it to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from django_pooled_pg.monitoring.report import ProcessReport
from tests.monitoring.made_up import buckets, pool, report

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'"
)
NASTY = "<img src=x onerror=alert(1)>'\"&{{ 7 }}"
LONG = "a_very_long_name_without_any_space_" * 6

dashboard = path("pools/", include("django_pooled_pg.monitoring.urls"))
urlpatterns = [path("admin/", admin.site.urls), dashboard]


def strict_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Middleware of a site that allows scripts and styles from itself only, and only files."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = STRICT
        return response

    return middleware


def holder(alias: str = "default", **changes: Any) -> dict[str, Any]:
    usual = {"alias": alias, "name": alias, "thread": "Thread-1", "held": 1.5, "pinned": None}
    usual |= {"abandoned": False, "remaining": None}
    return {**usual, "place": "at views.py:7 in index", **changes}


def busy_pool(alias: str = "default", **figures: Any) -> dict[str, Any]:
    usual = {
        "size": 8,
        "in_use": 5,
        "idle": 3,
        "borrows": 1000,
        "returns": 995,
        "wait_buckets": buckets(*[0.00005] * 900, *[0.0015] * 80, *[0.03] * 20),
        "wait_max": 0.031,
        "held_buckets": buckets(*[0.015] * 900, *[0.15] * 95),
        "held_max": 0.18,
        "connects": 9,
        "connect_errors": 1,
    }
    return pool(alias, **{**usual, **figures})


def many() -> list[ProcessReport]:
    """Eight processes with two pools each, all of whose names are as bad as can be."""
    return [
        report(
            1000 + number,
            busy_pool("default", waiting=number, paused=number == 3),
            busy_pool(f"{LONG} {NASTY}", name=f"{NASTY} {LONG}", exhausted=2),
            process=f"gunicorn {NASTY} {LONG if number == 5 else ''}",
            holders=[
                holder(thread=NASTY, place=f"at /{LONG}/{NASTY}:1 in f", held=float(number)),
                holder(thread=LONG, pinned=NASTY),
            ],
        )
        for number in range(8)
    ]
