"""The project's app; one that queries at the start, where the test wants that."""

from __future__ import annotations

import os

from django.apps import AppConfig


class TaskProject(AppConfig):
    name = "tests.packages.taskproject"

    def ready(self) -> None:
        if "TASKS_QUERY_AT_START" in os.environ:
            from tests.packages.taskproject.work import session

            session()
