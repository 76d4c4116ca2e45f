from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage

from django_pooled_pg.checks.options import check_options
from django_pooled_pg.pooling.config import PoolConfig

RDS = "django_pooled_pg.credentials.aws_rds"
AZURE = "django_pooled_pg.credentials.azure"
GOOGLE = {"provider": "google_cloud_sql"}
FILE = {"provider": "file", "path": "/run/secrets/password"}


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delenv("PGSSLMODE", raising=False)


def check(credentials: Any, HOST: str = "db.example.org", **options: Any) -> list[CheckMessage]:
    options["pool"] = {"credentials": credentials}
    settings = {"HOST": HOST, "USER": "app", "OPTIONS": options}
    config = PoolConfig.from_settings("default", settings)
    assert config is not None
    return [m for m in check_options("default", settings, config) if m.id == "pooled_pg.W016"]


@pytest.mark.parametrize(
    ("credentials", "sslmode", "warns"),
    [
        (RDS, None, True),
        (RDS, "require", True),
        (RDS, "verify-ca", True),
        (RDS, "verify-full", False),
        (AZURE, None, True),
        (AZURE, "disable", True),
        (AZURE, "prefer", True),
        (AZURE, "require", False),
        (GOOGLE, "allow", True),
        (GOOGLE, "verify-full", False),
        # What the site's own function returns isn't known, and a password is no token.
        (dict, None, False),
        (FILE, None, False),
        # libpq refuses it.
        (AZURE, "requir", False),
    ],
    ids=str,
)
def test_a_token_wants_tls(credentials: Any, sslmode: str | None, warns: bool) -> None:
    options = {} if sslmode is None else {"sslmode": sslmode}
    found = check(credentials, **options)
    assert len(found) == warns
    if found:
        least = "verify-full" if credentials is RDS else "require"
        assert f"['sslmode'] to '{least}'" in str(found[0].hint)
        assert f"{sslmode or 'prefer'!r} doesn't protect the token" in found[0].msg


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "/cloudsql/books", ""])
def test_a_proxy_on_this_host_does_it_by_itself(host: str) -> None:
    assert check(AZURE, HOST=host) == []


def test_the_environment_and_a_service_file_may_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(AZURE, service="books") == []
    monkeypatch.setenv("PGSSLMODE", "require")
    assert check(AZURE) == []
    assert check(RDS) != []
