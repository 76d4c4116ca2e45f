"""Decides who may see the dashboard, and who may scrape its metrics."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import constant_time_compare


def people(request: HttpRequest) -> HttpResponseBase | None:
    """Let staff in (`None`); send those who aren't logged in to the login page; others get a 403.

    The login page is the admin's or, on a site without it, `LOGIN_URL`. Raises `PermissionDenied`.
    """
    if _is_staff(request):
        return None
    if _user(request).is_authenticated:
        raise PermissionDenied
    # Imported here: it needs the app django.contrib.auth, which `metrics` does without.
    from django.contrib.auth.views import redirect_to_login

    return redirect_to_login(request.get_full_path(), _login_url())


def scrapers(request: HttpRequest) -> HttpResponseBase | None:
    """Let in staff, and the bearer token of `POOLED_PG_METRICS_TOKEN`; others get a 401 or 403.

    With the right token, no user is looked up, so that works while the database doesn't. Raises
    `PermissionDenied`.
    """
    expected = _token()
    given = request.headers.get("Authorization")
    if given is None or expected is None:
        if _is_staff(request):
            return None
        raise PermissionDenied
    scheme, _, token = given.partition(" ")
    if scheme.lower() == "bearer" and constant_time_compare(token.strip(), expected):
        return None
    return HttpResponse(
        "The token is wrong.\n",
        status=401,
        content_type="text/plain; charset=utf-8",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _token() -> str | None:
    token = getattr(settings, "POOLED_PG_METRICS_TOKEN", None)
    if token is not None and not isinstance(token, str):
        raise ImproperlyConfigured("POOLED_PG_METRICS_TOKEN must be a string, or None.")
    # An empty token, as from an environment variable that isn't set, must open nothing.
    return token or None


def _is_staff(request: HttpRequest) -> bool:
    user = _user(request)
    return bool(user.is_active and user.is_staff)


def _user(request: HttpRequest) -> Any:
    try:
        return request.user
    except AttributeError:
        raise ImproperlyConfigured(
            "The pools' dashboard needs django.contrib.auth: add its AuthenticationMiddleware to "
            "MIDDLEWARE."
        ) from None


def _login_url() -> str:
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return str(settings.LOGIN_URL)
