"""What the plugin refuses, and what its option adds to tests that say nothing."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import TestCase
from shop import payments
from shop.models import Order


@pytest.mark.django_db
def test_calls_in_a_transaction_fails():
    with transaction.atomic():
        payments.charge()


@pytest.mark.django_db
def test_calls_after_a_query(client):
    client.get("/query_then_charge")


@pytest.mark.django_db
@pytest.mark.no_connection_while_calling(return_at="transaction")
def test_its_own_marker_goes_first(client):
    client.get("/query_then_charge")


def test_no_database():
    payments.charge()


class TestWithUnittest(TestCase):
    def test_calls_fails(self):
        with transaction.atomic():
            payments.charge()

    def test_calls(self):
        Order.objects.create(text="one")
        payments.charge()
