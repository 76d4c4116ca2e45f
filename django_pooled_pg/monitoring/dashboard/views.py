"""Owns the dashboard's requests and responses: the page, metrics, and the page's files."""

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
from django.utils.cache import get_conditional_response
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET
from django.views.defaults import permission_denied

from .. import client, prometheus
from ..runtime_dir import RuntimeDirError
from . import page as html
from .access import View, staff_or_login, staff_or_token
from .data import look

logger = logging.getLogger(__name__)

# The page's own: names of threads and processes are other people's text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "dashboard.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
}


def _guarded(
    by: Callable[[View], View],
) -> Callable[[Callable[[HttpRequest], HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """GET only, for those whom `by` lets in, kept by no cache, in no transaction.

    The rules are the dashboard's own, so LoginRequiredMiddleware is told to leave it alone.
    """

    def decorate(
        view: Callable[[HttpRequest], HttpResponseBase],
    ) -> Callable[..., HttpResponseBase]:
        @cache_control(private=True, no_store=True)  # the first keeps Django's own cache away
        @require_GET
        def guarded(request: HttpRequest) -> HttpResponseBase:
            try:
                return by(view)(request)
            except PermissionDenied as ex:
                # Not left to Django: what it makes of this would not say that nobody keeps it.
                refused: HttpResponseBase = permission_denied(request, ex)
                return refused

        allowed: Callable[..., HttpResponseBase] = login_not_required(guarded)
        return transaction.non_atomic_requests(allowed)

    return decorate


@_guarded(staff_or_login)
def page(request: HttpRequest) -> HttpResponse:
    """The dashboard; its script asks for it again and again, to show what is new."""
    try:
        text, status = html.render(look()), 200
    except RuntimeDirError as ex:
        text, status = html.render(None, _no_answers(ex)), 503
    return HttpResponse(text, status=status, headers={"Content-Security-Policy": _POLICY})


@_guarded(staff_or_token)
def metrics(request: HttpRequest) -> HttpResponse:
    """The figures of all live processes, for Prometheus."""
    try:
        text, status = prometheus.exposition(client.collect()), 200
    except RuntimeDirError as ex:
        text, status = _no_answers(ex) + "\n", 503
    return HttpResponse(text, status=status, content_type=prometheus.CONTENT_TYPE)


@login_not_required
@transaction.non_atomic_requests
@require_GET
def asset(request: HttpRequest, name: str) -> HttpResponseBase:
    """The page's script and style. Nothing in them is secret: who asks isn't asked who they are."""
    content, etag = _asset(name)
    response = HttpResponse(
        content,
        content_type=_TYPES[name],
        headers={"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"},
    )
    return get_conditional_response(request, etag=etag, response=response) or response


@cache
def _asset(name: str) -> tuple[bytes, str]:
    content = (Path(__file__).with_name("static") / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _no_answers(error: RuntimeDirError) -> str:
    logger.error("The pools' processes can't be asked: %s", error)
    return str(error)
