"""The work as tasks of Django's own framework (6.0 and newer), which finds them by their names."""

from __future__ import annotations

from typing import Any

from django.tasks import task

from tests.packages.taskproject import work


@task
def session() -> dict[str, int]:
    return work.session()


@task
def change() -> dict[str, int]:
    return work.change()


@task
def changes() -> list[Any]:
    return work.changes()


@task
def fail(kind: str) -> None:
    work.fail(kind)
