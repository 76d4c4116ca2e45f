"""What tests do with three aliases of one database; run by `test_test_runner.py`."""

from __future__ import annotations

from django.db import connections
from django.test import TestCase, TransactionTestCase

from books.models import Book
from django_pooled_pg.pooling import registry


class Replica(TransactionTestCase):
    databases = {"default", "replica", "twin"}

    def test_all_see_the_rows(self) -> None:
        Book.objects.create(title="one")
        for alias in self.databases:
            self.assertEqual(Book.objects.using(alias).count(), 1)
            connections[alias].close()
        self.assertEqual(sum(pool.statistics().idle for pool in registry.pools()), 3)


class ReplicaInTransaction(TestCase):
    databases = {"default", "replica", "twin"}

    def test_rolled_back(self) -> None:
        Book.objects.create(title="one")
        self.assertEqual(Book.objects.count(), 1)
