"""What a project's tests do with its databases; run by `test_test_runner.py`."""

from __future__ import annotations

import threading
import urllib.request

from django.db import connection, connections, transaction
from django.test import (
    LiveServerTestCase,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from books.models import Book
from django_pooled_pg.pooling.pool import Pool


def show(setting: str, alias: str = "default") -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SHOW {setting}")
        return cursor.fetchone()[0]


class InTransaction(TestCase):
    databases = {"default", "other"}

    def test_rolled_back_1(self) -> None:
        Book.objects.create(title="one")
        self.assertEqual(Book.objects.count(), 1)

    def test_rolled_back_2(self) -> None:
        self.assertEqual(Book.objects.count(), 0)
        self.assertEqual(Book.objects.using("other").count(), 0)

    def test_pooled(self) -> None:
        self.assertIsInstance(connection.pool, Pool)
        self.assertTrue(connection.settings_dict["NAME"].startswith("test_"))

    def test_on_commit(self) -> None:
        seen: list[int] = []
        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(lambda: seen.append(1))
        self.assertEqual(seen, [1])


class Committed(TransactionTestCase):
    databases = {"default", "other"}

    def test_other_threads_see_rows(self) -> None:
        Book.objects.create(title="one")
        counts: list[int] = []

        def look() -> None:
            counts.append(Book.objects.count())
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(counts, [1])

    def test_a_thread_that_forgets_to_close(self) -> None:
        thread = threading.Thread(target=Book.objects.count)
        thread.start()
        thread.join()

    def test_flushed(self) -> None:
        self.assertEqual(Book.objects.count(), 0)


class Live(LiveServerTestCase):
    def test_the_server_sees_rows(self) -> None:
        Book.objects.create(title="one")
        with urllib.request.urlopen(f"{self.live_server_url}/count") as response:
            self.assertEqual(response.read(), b"1")


class TimeZones(TransactionTestCase):
    databases = {"default", "other"}

    def test_overridden_and_back(self) -> None:
        self.assertEqual(show("TimeZone"), "UTC")
        with override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris"):
            self.assertEqual(show("TimeZone"), "Europe/Paris")
            connection.close()
            self.assertEqual(show("TimeZone"), "Europe/Paris")
            self.assertEqual(show("TimeZone", "other"), "Europe/Paris")
        self.assertEqual(show("TimeZone"), "UTC")
        self.assertEqual(show("TimeZone", "other"), "UTC")


class NoDatabase(SimpleTestCase):
    def test_nothing(self) -> None:
        self.assertTrue(True)
