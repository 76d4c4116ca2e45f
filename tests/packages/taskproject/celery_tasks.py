"""The work as Celery's tasks."""

from __future__ import annotations

from celery import shared_task
from django.db import connection, transaction

from django_pooled_pg import deadline
from tests.packages.taskproject import work

session = shared_task(name="session")(work.session)
change = shared_task(name="change")(work.change)
changes = shared_task(name="changes")(work.changes)
fail = shared_task(name="fail")(work.fail)
take = shared_task(name="take")(work.take)
take_in_time = shared_task(name="take_in_time")(deadline(0.5)(work.take))
together = shared_task(name="together")(work.together)
marked = shared_task(name="marked")(work.marked)
mark = shared_task(name="mark")(work.mark)


@shared_task(name="order")
def order(number: int) -> int:
    """Have another task look at what this one has committed; tell what is lent meanwhile."""
    held = []

    def tell() -> None:
        held.append(connection.pool.statistics().in_use)
        marked.apply_async(task_id=f"marked-{number}")

    work.marked()
    with transaction.atomic():
        work.mark(number)
        transaction.on_commit(tell)
    return held[0]
