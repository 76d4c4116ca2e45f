"""The project's Celery app."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.packages.taskproject.settings")

FOLDER = Path(os.environ["TASKS_FOLDER"])

app = Celery("tasks")
app.conf.update(
    broker_url=os.environ.get("TASKS_REDIS", "memory://"),
    result_backend=os.environ.get("TASKS_REDIS", "cache+memory://"),
    worker_prefetch_multiplier=1,
    task_always_eager="TASKS_EAGER" in os.environ,
    task_eager_propagates=True,
)
if reuse := os.environ.get("TASKS_REUSE"):
    app.conf["CELERY_DB_REUSE_MAX"] = int(reuse)
app.autodiscover_tasks(["tests.packages.taskproject"], related_name="celery_tasks")


@signals.worker_before_create_process.connect
def query_in_the_parent(**kwargs: Any) -> None:
    """Hold a connection in the parent at each fork, and note its session."""
    if "TASKS_PARENT_QUERIES" in os.environ:
        from django.db import connection

        from tests.packages.taskproject.work import session

        connection.ensure_connection()
        with (FOLDER / "parent").open("a") as file:
            file.write(f"{session()['session']}\n")
