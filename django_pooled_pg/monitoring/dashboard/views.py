"""The dashboard's requests and responses: the page, metrics, and the page's files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import cache_control
from django.views.decorators.http import etag, require_GET
from django.views.defaults import permission_denied

from ...runtime_dir import RuntimeDirError
from .. import client, prometheus
from . import page as html
from .access import people, scrapers
from .data import look

logger = logging.getLogger(__name__)

# Only the page's own files: names of threads and processes are other people's text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "dashboard.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
}


def _guarded(
    refusal: Callable[[HttpRequest], HttpResponseBase | None],
) -> Callable[[Callable[[], HttpResponse]], Callable[[HttpRequest], HttpResponseBase]]:
    """GET only, for those whom `refusal` lets in, kept by no cache, in no transaction.

    The dashboard has its own rules, so LoginRequiredMiddleware must leave it alone.
    """

    def decorate(answer: Callable[[], HttpResponse]) -> Callable[[HttpRequest], HttpResponseBase]:
        @transaction.non_atomic_requests
        @login_not_required
        @cache_control(private=True, no_store=True)  # `private` keeps Django's own cache away
        @require_GET
        def view(request: HttpRequest) -> HttpResponseBase:
            try:
                return refusal(request) or answer()
            except PermissionDenied as ex:
                # Not left to Django: its response wouldn't forbid caching.
                refused: HttpResponseBase = permission_denied(request, ex)
                return refused

        guarded: Callable[[HttpRequest], HttpResponseBase] = view
        return guarded

    return decorate


@_guarded(people)
def page() -> HttpResponse:
    """The dashboard; its script requests it repeatedly, to show what is new."""
    try:
        text, status = html.render(look()), 200
    except RuntimeDirError as ex:
        text, status = html.render(None, _no_answers(ex)), 503
    return HttpResponse(text, status=status, headers={"Content-Security-Policy": _POLICY})


@_guarded(scrapers)
def metrics() -> HttpResponse:
    """The figures of all live processes, for Prometheus."""
    try:
        text, status = prometheus.exposition(client.collect()), 200
    except RuntimeDirError as ex:
        text, status = _no_answers(ex) + "\n", 503
    return HttpResponse(text, status=status, content_type=prometheus.PROMETHEUS_CONTENT_TYPE)


@cache
def _asset(name: str) -> bytes:
    return (Path(__file__).with_name("static") / name).read_bytes()


@login_not_required
@transaction.non_atomic_requests
@require_GET
@etag(lambda request, name: f'"{hashlib.sha256(_asset(name)).hexdigest()[:16]}"')
def asset(request: HttpRequest, name: str) -> HttpResponse:
    """The page's script and style. They hold no secrets, so anybody may have them."""
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(_asset(name), content_type=_TYPES[name], headers=headers)


def _no_answers(error: RuntimeDirError) -> str:
    logger.error("The pools' processes can't be asked: %s", error)
    return str(error)
