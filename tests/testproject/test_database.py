"""Tests testproject/database.py."""

from __future__ import annotations

import pytest

from testproject.database import from_url


def test_all_parts() -> None:
    assert from_url(
        "postgres://me:p%40ss%2F@[::1]:5433/my%20db?sslmode=require&application_name="
    ) == {
        "NAME": "my db",
        "USER": "me",
        "PASSWORD": "p@ss/",
        "HOST": "::1",
        "PORT": "5433",
        "OPTIONS": {"sslmode": "require", "application_name": ""},
    }


def test_nothing_but_a_name() -> None:
    settings = from_url("postgresql:///db")
    assert settings.pop("NAME") == "db"
    assert settings.pop("OPTIONS") == {}
    assert set(settings.values()) == {""}


def test_other_urls_are_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="postgres://") as caught:
        from_url("mysql://me:secret@host/db")
    assert "secret" not in str(caught.value)
