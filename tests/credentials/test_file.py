from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from django_pooled_pg.credentials.file import provider
from django_pooled_pg.pooling.untold import Untold


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return tmp_path / "s3cret-path"


def test_the_file_is_read_each_time(secret: Path) -> None:
    read = provider({}, path=str(secret))
    for text in ("one", "two\n", "three \r\n"):
        secret.write_text(text, newline="")
        assert read() == {"password": text.rstrip("\r\n")}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"username": "app-7", "password": "x"}', {"user": "app-7", "password": "x"}),
        ('{"user": "app-8", "password": "x", "ttl": 3}', {"user": "app-8", "password": "x"}),
        ('{"password": "x"}', {"password": "x"}),
    ],
)
def test_json_may_bring_a_user_too(secret: Path, text: str, found: dict[str, str]) -> None:
    secret.write_text(text)
    assert provider({}, path=str(secret), format="json")() == found


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda path: path.unlink(), r"can't be read \(No such file or directory\)"),
        (lambda path: path.write_text("\n"), "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "isn't valid text"),
    ],
    ids=["gone", "empty", "binary"],
)
def test_what_it_held_before_is_used_while_it_cannot_be_read(
    secret: Path, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], None], said: str
) -> None:
    caplog.set_level(logging.INFO)
    secret.write_text("one")
    read = provider({}, path=str(secret))
    assert read() == {"password": "one"}
    break_it(secret)
    assert read() == read() == {"password": "one"}
    assert len(caplog.records) == 1, "once"
    assert "its last content stays in use" in caplog.text
    with pytest.raises(Untold, match=said) as caught:
        provider({}, path=str(secret))()
    assert "s3cret" not in f"{caught.value!r} {caplog.text}"
    secret.write_text("two")
    assert read() == {"password": "two"}


@pytest.mark.parametrize("text", ["s3cret", '"s3cret"', '{"pw": "s3cret"}', '{"password": 5}'])
def test_json_that_is_none_is_told_but_not_shown(secret: Path, text: str) -> None:
    secret.write_text(text)
    with pytest.raises(Untold, match=r"isn't a JSON object|has to be a string") as caught:
        provider({}, path=str(secret), format="json")()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{}, {"path": "password"}, {"path": "/x", "format": "xml"}])
def test_wrong_arguments_are_told(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"absolute path|'format'"):
        provider({}, **arguments)
