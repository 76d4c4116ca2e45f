"""What the option `credentials` accepts; `tests/faults/test_credentials.py` tests its use."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pooled_pg.credentials.file import SecretFile
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.credentials import READY_MADE
from django_pooled_pg.pooling.untold import CredentialsProvider

DATABASE = {"HOST": "books.abc.eu-central-1.rds.amazonaws.com", "USER": "app", "PORT": ""}


def read(value: Any, **settings: Any) -> CredentialsProvider:
    options = {"pool": {"credentials": value}}
    config = PoolConfig.from_settings("default", {**DATABASE, "OPTIONS": options, **settings})
    assert config is not None
    assert config.credentials is not None
    return config.credentials


def made_up() -> dict[str, str]:
    return {"password": "x"}


def test_a_callable_or_a_path_to_one() -> None:
    assert read(made_up)() == read(f"{__name__}.made_up")() == {"password": "x"}
    assert (read(made_up).renew, read(made_up).least_sslmode) == (None, None)


def test_a_provider_may_be_named_by_a_path_or_in_a_dict(tmp_path: Any) -> None:
    path = tmp_path / "password"
    path.write_text("x\n")
    for name in ("file", "django_pooled_pg.credentials.file"):
        assert read({"provider": name, "path": str(path)})() == {"password": "x"}
    with pytest.raises(ImproperlyConfigured, match=r"\(file\) needs the file"):
        read("django_pooled_pg.credentials.file")


def test_a_port_may_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_pooled_pg.credentials.aws_rds.need", lambda *args: None)
    assert read({"provider": "aws_rds", "port": 5433}).renew is not None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("django_pooled_pg.credentials.vault", "needs a 'provider': one of"),
        ({"provider": "vault"}, "'aws_rds', 'azure', 'file', 'google_cloud_sql'"),
        ({"provider": None}, "needs a 'provider'"),
        ({"provider": []}, "needs a 'provider'"),
        ({"provider": "file", "pth": "/x"}, r"\(file\) has an unknown argument; it takes 'path'"),
        ({"provider": "google_cloud_sql", "x": "y"}, "it takes none"),
        ({"provider": "file", "path": ["x"]}, r"\(file\) has 'path' of type list; give a string"),
        ({"provider": "file", "path": True}, "has 'path' of type bool"),
        ({"provider": "file", "path": ""}, "has 'path' of type str"),
        ({"provider": "file", 3: "x"}, "has an unknown argument"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(value: Any, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        read(value)
    assert "DATABASES['default']['OPTIONS']['pool']['credentials']" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HOST": ""}, "needs the name of one endpoint"),
        ({"HOST": "/run/postgresql"}, "needs the name of one endpoint"),
        ({"HOST": "a,b"}, "needs the name of one endpoint"),
        ({"USER": ""}, "needs the database user's name"),
        ({"PORT": "5432,5433"}, "needs one port"),
    ],
    ids=str,
)
def test_a_token_of_rds_is_for_one_user_at_one_endpoint(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("django_pooled_pg.credentials.aws_rds.need", lambda *args: None)
    with pytest.raises(ImproperlyConfigured, match=said):
        read("django_pooled_pg.credentials.aws_rds", **settings)


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("aws_rds", "boto3", "aws"),
        ("azure", "azure.identity", "azure"),
        ("google_cloud_sql", "google.auth", "google"),
    ],
)
def test_a_library_that_is_missing_is_told_with_the_command_to_run(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, extra: str
) -> None:
    """As the settings are checked, not at the first request."""

    def find_spec(found: str) -> None:
        assert found == library

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    with pytest.raises(ImproperlyConfigured) as caught:
        read(f"django_pooled_pg.credentials.{name}")
    assert f"({name}) needs {library}, which isn't installed" in str(caught.value)
    assert f'pip install "django-pooled-pg[{extra}]"' in str(caught.value)


def test_no_library_is_imported_before_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("boto3", "azure.identity", "google.auth"):
        monkeypatch.setitem(sys.modules, library, None)  # whose import fails
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for name in set(READY_MADE) - {"file"}:
        assert read(f"django_pooled_pg.credentials.{name}").renew is not None


def test_a_file_is_not_renewed() -> None:
    provider = read({"provider": "file", "path": "/run/secrets/password"})
    assert isinstance(provider._function, SecretFile)
    assert provider.renew is None
