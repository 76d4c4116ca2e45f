from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client

from tests.monitoring.dashboard.site import dashboard

pytestmark = [
    pytest.mark.urls("tests.monitoring.dashboard.site"),
    pytest.mark.usefixtures("one_busy"),
]

ALL = ["/pools/", "/pools/metrics"]
TOKEN = "tr0ub4dor"


@pytest.fixture
def token(settings: Any) -> None:
    settings.POOLED_PG_METRICS_TOKEN = TOKEN


def bearer(token: str, scheme: str = "Bearer") -> dict[str, Any]:
    return {"headers": {"authorization": f"{scheme} {token}"}}


@pytest.mark.parametrize("path", ALL)
def test_staff_may(staff: Client, path: str) -> None:
    assert staff.get(path).status_code == 200


@pytest.mark.parametrize("path", ALL)
def test_other_users_may_not(visitor: Client, path: str) -> None:
    response = visitor.get(path)
    assert response.status_code == 403
    assert set(response["Cache-Control"].split(", ")) == {"private", "no-store"}


def test_who_may_not_sees_the_sites_own_403_page(visitor: Client, settings: Any) -> None:
    pages = {"403.html": "this is the site's page"}
    loaders = [("django.template.loaders.locmem.Loader", pages)]
    (engine,) = settings.TEMPLATES
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    assert b"this is the site" in visitor.get("/pools/").content


@pytest.mark.parametrize("path", ALL)
def test_staff_that_was_switched_off_may_not(staff: Client, settings: Any, path: str) -> None:
    User.objects.update(is_active=False)
    assert staff.get(path).status_code in (302, 403)
    # This one lets them log in all the same.
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend]
    staff.force_login(User.objects.get(), backend=backend)
    assert staff.get(path).status_code == 403


def test_people_are_sent_to_the_admins_login(client: Client) -> None:
    response = client.get("/pools/?a=1")
    assert (response.status_code, response["Location"]) == (
        302,
        "/admin/login/?next=/pools/%3Fa%3D1",
    )
    assert "no-store" in response["Cache-Control"]


def test_without_the_admin_they_are_sent_to_the_sites_login(client: Client, settings: Any) -> None:
    settings.ROOT_URLCONF = (dashboard,)
    settings.LOGIN_URL = "/enter/"
    assert client.get("/pools/")["Location"] == "/enter/?next=/pools/"


def test_programs_get_a_403(client: Client) -> None:
    assert client.get("/pools/metrics").status_code == 403


def test_without_users_it_says_what_is_missing(client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = []
    with pytest.raises(ImproperlyConfigured, match="AuthenticationMiddleware"):
        client.get("/pools/")


@pytest.mark.parametrize("method", ["post", "put", "delete", "head", "options"])
@pytest.mark.parametrize("path", [*ALL, "/pools/dashboard.js"])
def test_get_only(staff: Client, path: str, method: str) -> None:
    response = getattr(staff, method)(path)
    assert response.status_code == 405
    if path in ALL:
        assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", [*ALL, "/pools/dashboard.js"])
def test_the_sites_login_middleware_leaves_it_alone(
    client: Client, settings: Any, token: None, path: str
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    response = client.get(path, **bearer(TOKEN))
    expected = {"/pools/": 302}.get(path, 200)
    assert response.status_code == expected
    if expected == 302:
        assert response["Location"].startswith("/admin/login/")


# The token


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_metrics_without_a_look_at_users(
    client: Client, settings: Any, token: None, scheme: str
) -> None:
    settings.MIDDLEWARE = []
    assert client.get("/pools/metrics", **bearer(TOKEN, scheme)).status_code == 200


@pytest.mark.parametrize(
    "given", ["Bearer wrong", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, "", f"Bearer {TOKEN}ö"]
)
def test_another_token_does_not(client: Client, token: None, given: str) -> None:
    response = client.get("/pools/metrics", headers={"authorization": given})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert "no-store" in response["Cache-Control"]


def test_nothing_else_is_opened_by_the_token(client: Client, token: None) -> None:
    assert client.get("/pools/", **bearer(TOKEN)).status_code == 302


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize("given", ["Bearer ", "Bearer None", "Bearer"])
def test_no_token_opens_when_none_is_set(
    client: Client, settings: Any, unset: str | None, given: str
) -> None:
    settings.POOLED_PG_METRICS_TOKEN = unset
    response = client.get("/pools/metrics", headers={"authorization": given})
    assert response.status_code == 403


def test_with_a_token_staff_still_may(staff: Client, token: None) -> None:
    assert staff.get("/pools/metrics").status_code == 200


def test_a_token_that_is_no_text(client: Client, settings: Any) -> None:
    settings.POOLED_PG_METRICS_TOKEN = 12345
    with pytest.raises(ImproperlyConfigured, match="POOLED_PG_METRICS_TOKEN"):
        client.get("/pools/metrics")


async def _ask(path: str) -> Any:
    client = AsyncClient()
    user = await User.objects.acreate(username="op", is_staff=True)
    await client.aforce_login(user)
    return await client.get(path)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ALL)
def test_under_asgi(path: str) -> None:
    assert async_to_sync(_ask)(path).status_code == 200
