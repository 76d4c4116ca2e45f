from __future__ import annotations

from pathlib import Path

import pytest

from django_pooled_pg.pooling.budget.place import Place, place_of

SETTINGS = {"HOST": "db.internal", "PORT": "", "USER": "books", "NAME": "shop"}


def place(name: str | None = None, **changes: object) -> Place:
    return place_of({**SETTINGS, **changes}, name, Path)


def test_it_is_of_the_server_and_the_user() -> None:
    assert place() == place(NAME="another")
    others = [place(HOST="other"), place(PORT="5433"), place(USER="other"), place("shop")]
    others.append(place(OPTIONS={"service": "shop"}))
    assert len({place().key, *(each.key for each in others)}) == 6


def test_or_of_a_name() -> None:
    assert place("shop") == place("shop", HOST="replica")


def test_what_the_environment_says_counts_where_settings_are_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPORT", "5433")
    assert place().shown == "budget for db.internal:5433 as books"
    assert place().key == place(PORT="5433").key
