"""Owns who may see the dashboard, and who may scrape its metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import constant_time_compare

View = Callable[..., HttpResponseBase]


def staff_or_login(view: View) -> View:
    """For people: who isn't logged in is sent to the login page, who isn't staff gets a 403.

    The login page is the admin's or, in a site without it, `LOGIN_URL`.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if _is_staff(request):
            return view(request, *args, **kwargs)
        if _user(request).is_authenticated:
            raise PermissionDenied
        # Not at the top: it needs the app django.contrib.auth, which `metrics` does without.
        from django.contrib.auth.views import redirect_to_login

        return redirect_to_login(request.get_full_path(), _login_url())

    return guarded


def staff_or_token(view: View) -> View:
    """For scrapers: staff, or the bearer token of the setting `POOLED_PG_METRICS_TOKEN`.

    They have no use for a login page: a 403 or a 401 for everybody else.

    With the right token nobody looks for a user: that works while the database doesn't.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        expected = _token()
        given = request.headers.get("Authorization")
        if given is None or expected is None:
            if not _is_staff(request):
                raise PermissionDenied
            return view(request, *args, **kwargs)
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and constant_time_compare(token.strip(), expected):
            return view(request, *args, **kwargs)
        return HttpResponse(
            "The token is wrong.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Bearer"},
        )

    return guarded


def _token() -> str | None:
    token = getattr(settings, "POOLED_PG_METRICS_TOKEN", None)
    if token is not None and not isinstance(token, str):
        raise ImproperlyConfigured("POOLED_PG_METRICS_TOKEN must be a text, or None.")
    # An empty one, as from an environment variable that isn't set, must open nothing.
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
