"""The addresses of the site under load: the site's own, and a query that takes long."""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def long_query(request: HttpRequest) -> HttpResponse:
    """Run a query that takes `seconds`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [float(request.GET["seconds"])])
    return HttpResponse("done")


urlpatterns = [
    path("long", long_query),
    path("async/", include("testproject.bench.async_views")),
    path("", include("testproject.urls")),
]
