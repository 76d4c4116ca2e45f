"""The work as Huey's tasks, where `run_huey` looks for them."""

from __future__ import annotations

from django.conf import settings

if "huey.contrib.djhuey" in settings.INSTALLED_APPS:
    from huey.contrib.djhuey import db_task, task

    from tests.packages.taskproject import work

    session = db_task()(work.session)
    change = db_task()(work.change)
    changes = db_task()(work.changes)
    fail = db_task()(work.fail)
    take = db_task()(work.take)
    together = db_task()(work.together)
    bare_session = task(name="bare_session")(work.session)
