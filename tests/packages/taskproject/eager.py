"""Tests of the project itself, run by `manage.py test`: tasks run eagerly, or in a thread."""

from __future__ import annotations

import pytest
from celery.contrib.testing.worker import start_worker
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from tests.packages.taskproject.celery_app import app
from tests.packages.taskproject.celery_tasks import fail, mark, marked, session


class Eager(TestCase):
    def test_tasks_run_in_the_tests_transaction(self) -> None:
        marked.delay()
        mark.delay(1)
        with transaction.atomic():
            mark.delay(2)
            here = session.delay().get()["session"]
        with pytest.raises(RuntimeError):
            fail.delay("in Python")
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            mark.delay_on_commit(3)
        assert len(callbacks) == 1
        assert marked.delay().get() == [1, 2, 3]
        assert session.delay().get()["session"] == here
        assert connection.in_atomic_block


class Embedded(TransactionTestCase):
    def test_a_worker_in_a_thread(self) -> None:
        app.conf.task_always_eager = False
        try:
            with start_worker(app, perform_ping_check=False):
                sessions = {session.delay().get(timeout=30)["session"] for _ in range(5)}
            assert len(sessions) == 1
        finally:
            app.conf.task_always_eager = True
