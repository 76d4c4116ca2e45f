"""Ways to let a request work in its tenant's schema, as sites do it by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]
current: ContextVar[str] = ContextVar("current", default="public")


def _schema(request: HttpRequest) -> str:
    return f"tenant_{request.get_host()[0]}"


def by_statement(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, false)", [_schema(request)])
        return get_response(request)

    return middleware


def by_execute_wrapper(get_response: GetResponse) -> GetResponse:
    """Before each statement."""

    def set_first(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith("ROLLBACK"):  # before which nothing else can be said
            context["connection"].connection.execute(f"SET search_path TO {current.get()}")
        return execute(sql, params, many, context)

    def install(connection: Any, **kwargs: Any) -> None:
        if set_first not in connection.execute_wrappers:
            connection.execute_wrappers.append(set_first)

    connection_created.connect(install, weak=False)

    def middleware(request: HttpRequest) -> HttpResponse:
        current.set(_schema(request))
        return get_response(request)

    return middleware
