"""Settings of a small project whose tasks are run by other people's workers.

`TASKS_DATABASE` (JSON), `TASKS_FOLDER` (the queues' files), `TASKS_REDIS` (a URL) and `TASKS_APPS` come from the test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

FOLDER = Path(os.environ["TASKS_FOLDER"])
DATABASES = {"default": json.loads(os.environ["TASKS_DATABASE"])}
INSTALLED_APPS = [
    "django_pooled_pg",
    "tests.packages.taskproject.apps.TaskProject",
    *os.environ.get("TASKS_APPS", "").split(),
]
USE_TZ = True
SECRET_KEY = "not-a-secret-of-anybody"

HUEY = {
    "huey_class": "huey.SqliteHuey",
    "name": "tasks",
    "filename": str(FOLDER / "huey.db"),
    "immediate": False,
}
RQ_QUEUES = {"default": {"URL": os.environ.get("TASKS_REDIS", "")}}
if "django_tasks_db" in INSTALLED_APPS:
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
