"""The same with Django's test cases."""

from __future__ import annotations

from django.db import connection, transaction
from django.test import LiveServerTestCase, TestCase, TransactionTestCase
from shop import payments
from shop.models import Order

from django_pooled_pg import PoolAssertions


class Assertions(PoolAssertions):
    def test_borrows(self):
        with self.assertMaxBorrows(1, return_at="request"):
            self.client.get("/two_transactions")

    def test_borrows_fails(self):
        with self.assertMaxBorrows(1, return_at="transaction"):
            self.client.get("/two_transactions")

    def test_calls(self):
        with self.assertNoConnectionWhileCalling(return_at="transaction"):
            self.client.get("/two_transactions")

    def test_calls_fails(self):
        with self.assertNoConnectionWhileCalling("shop.payments.charge"), transaction.atomic():
            payments.charge()

    def test_state(self):
        with self.assertNoSessionState():
            self.client.get("/two_transactions")

    def test_state_fails(self):
        with self.assertNoSessionState():
            self.client.get("/set_parameter")

    async def test_async(self):
        async with self.assertNoConnectionWhileCalling(return_at="transaction"):
            await self.async_client.get("/asynchronous")

    async def test_async_fails(self):
        async with self.assertNoConnectionWhileCalling(return_at="request"):
            await self.async_client.get("/asynchronous")


class InTransaction(Assertions, TestCase):
    @classmethod
    def setUpTestData(cls):
        Order.objects.create(text="of the set-up")
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval('shop_order_id_seq')")


class WithoutTransaction(Assertions, TransactionTestCase):
    pass


class Served(PoolAssertions, LiveServerTestCase):
    def test_answers_of_a_server_are_no_calls(self):
        """Its thread has another context; this is of the one whose client is the test itself."""
        import http.client

        with self.assertNoConnectionWhileCalling():
            client = http.client.HTTPConnection("localhost", self.server_thread.port)
            client.request("GET", "/charge_then_query")
            assert client.getresponse().status == 200
            client.close()
