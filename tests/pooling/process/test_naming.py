from __future__ import annotations

import sys

import pytest

from django_pooled_pg.pooling.process.naming import process_name


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/venv/bin/gunicorn", "-w", "3", "shop.wsgi"], "gunicorn"),
        (["/srv/venv/lib/gunicorn/__main__.py", "shop.wsgi"], "gunicorn"),
        (["manage.py", "migrate", "--plan"], "manage.py migrate"),
        (["/srv/manage.py", "--settings=x", "migrate"], "manage.py"),
        (["manage.py"], "manage.py"),
        (["/venv/bin/django-admin", "shell"], "django-admin shell"),
        (["celery", "--password", "sesame"], "celery"),
        (["-c", "sesame"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_process_name(monkeypatch: pytest.MonkeyPatch, argv: list[str], name: str) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert process_name() == name
