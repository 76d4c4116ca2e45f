"""Tests of that site: those whose name ends with `_fails` are to fail, all others to pass.

Each runs in a transaction of its own, as with `db`, and without one, as with `transactional_db`: the assertions
say the same.
"""

from __future__ import annotations

from contextlib import closing, suppress
from unittest import mock

import pytest
from django.db import connection, transaction
from django.utils.connection import ConnectionDoesNotExist
from shop import payments
from shop.models import Order

from django_pooled_pg import max_borrows, no_connection_while_calling, no_session_state


@pytest.fixture(
    params=[
        pytest.param("in_transaction", marks=pytest.mark.django_db),
        pytest.param("without", marks=pytest.mark.django_db(transaction=True)),
    ],
    autouse=True,
)
def of_the_set_up(db):
    Order.objects.create(text="of the set-up")
    with connection.cursor() as cursor:  # nor does this count as the test's
        cursor.execute("SELECT nextval('shop_order_id_seq')")


both = pytest.mark.parametrize("return_at", ["request", "transaction"])


# Borrows


@both
def test_one_borrow_in_a_request(client, return_at):
    with max_borrows(1, return_at="request"):
        client.get("/two_transactions")


def test_a_borrow_for_each_request_fails(client):
    with max_borrows(1, return_at="request"):
        client.get("/charge_then_query")
        client.get("/charge_then_query")


def test_a_borrow_for_each_transaction(client):
    with max_borrows(2, return_at="transaction"):
        client.get("/two_transactions")


def test_two_transactions_fails(client):
    with max_borrows(1, return_at="transaction"):
        client.get("/two_transactions")


def test_statements_outside_of_transactions_fails(client):
    with max_borrows(2):
        Order.objects.count()
        Order.objects.count()
        Order.objects.count()


def test_statements_of_one_cursor():
    with max_borrows(1), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT 2")


def test_a_server_side_cursor_with_queries_meanwhile():
    Order.objects.create(text="another")
    with max_borrows(1):
        for _ in Order.objects.iterator(chunk_size=1):
            Order.objects.count()


def test_a_block_without_a_savepoint():
    with max_borrows(1), transaction.atomic(savepoint=False):
        Order.objects.count()
        Order.objects.count()


def test_a_block_that_is_rolled_back():
    with max_borrows(2):
        with suppress(LookupError), transaction.atomic():
            Order.objects.count()
            raise LookupError
        Order.objects.count()


def test_what_changes_a_session_is_pinned():
    with max_borrows(1):
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '5MB'")
        Order.objects.count()
        Order.objects.count()


def test_one_assertion_in_another():
    with max_borrows(3):
        Order.objects.count()
        with max_borrows(1):
            Order.objects.count()
        Order.objects.count()


@pytest.mark.max_borrows(1)
def test_marked():
    Order.objects.count()


@pytest.mark.max_borrows(1)
def test_marked_fails():
    Order.objects.count()
    Order.objects.count()


# Calls


def test_a_query_before_a_call_fails(client):
    with no_connection_while_calling(return_at="request"):
        client.get("/query_then_charge")


def test_a_query_before_a_call(client):
    with no_connection_while_calling(return_at="transaction"):
        client.get("/query_then_charge")


def test_the_pools_setting_counts_fails(client):
    with no_connection_while_calling():
        client.get("/query_then_charge")


@both
def test_a_query_after_a_call(client, return_at):
    with no_connection_while_calling(return_at=return_at):
        client.get("/charge_then_query")


@both
def test_a_call_in_a_transaction_fails(client, return_at):
    with no_connection_while_calling(return_at=return_at):
        client.get("/charge_in_transaction")


def test_a_call_between_transactions(client):
    with no_connection_while_calling(return_at="transaction"):
        client.get("/two_transactions")


def test_a_call_in_a_transaction_without_statements_fails():
    with no_connection_while_calling(), transaction.atomic():
        payments.charge()


def test_a_call_after_a_transaction():
    with no_connection_while_calling():
        with transaction.atomic():
            Order.objects.count()
        payments.charge()


def test_a_call_with_an_open_cursor_fails():
    with no_connection_while_calling():
        for _ in Order.objects.iterator():
            payments.charge()


def test_a_call_after_a_set_fails():
    with no_connection_while_calling():
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '5MB'")
        payments.charge()


def test_a_call_on_commit(django_capture_on_commit_callbacks):
    with (
        no_connection_while_calling(),
        django_capture_on_commit_callbacks(execute=True),
        transaction.atomic(),
    ):
        Order.objects.count()
        transaction.on_commit(payments.charge)


def test_a_connection_that_was_kept_alive_fails():
    with closing(payments.connection()) as kept:
        payments.ask(kept)
        with no_connection_while_calling(), transaction.atomic():
            Order.objects.count()
            payments.ask(kept)


def test_an_answer_that_is_awaited_with_a_connection_fails():
    with closing(payments.connection()) as client, no_connection_while_calling():
        client.request("GET", "/")
        with transaction.atomic():
            Order.objects.count()
            assert client.getresponse().read() == b"ok"


def test_what_is_no_outgoing_call():
    with no_connection_while_calling(), transaction.atomic():
        Order.objects.count()
        payments.talk_to_oneself()


@pytest.mark.parametrize("allowed", ["localhost", "127.0.0.1", f"localhost:{payments.port}"])
def test_allowed(allowed):
    with no_connection_while_calling(allow=[allowed]), transaction.atomic():
        payments.charge()


@pytest.mark.parametrize("allowed", ["elsewhere.invalid", "127.0.0.1:1"])
def test_not_allowed_fails(allowed):
    with no_connection_while_calling(allow=[allowed]), transaction.atomic():
        payments.charge()


def test_a_mock_fails():
    with (
        mock.patch("shop.payments.charge"),
        no_connection_while_calling("shop.payments.charge"),
        transaction.atomic(),
    ):
        payments.charge()


def test_a_function_that_is_not_there():
    with pytest.raises(AttributeError), no_connection_while_calling("shop.payments.missing"):
        pass
    with no_connection_while_calling():
        pass


@pytest.mark.no_connection_while_calling("shop.payments.charge", return_at="transaction")
def test_marked_calls_fails(client):
    client.get("/charge_in_transaction")


# Session state


def test_no_session_state(client):
    with no_session_state():
        client.get("/two_transactions")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '5MB'")


def test_session_state_fails(client):
    with no_session_state():
        client.get("/set_parameter")


@pytest.mark.no_session_state
def test_marked_session_state_fails(client):
    client.get("/set_parameter")


def test_session_state_after_the_block(client):
    with no_session_state():
        Order.objects.count()
    client.get("/set_parameter")


# Others


def test_an_error_of_the_block_goes_first():
    with suppress(LookupError), max_borrows(0):
        Order.objects.count()
        raise LookupError


def test_an_alias_without_a_pool():
    with pytest.raises(ConnectionDoesNotExist), max_borrows(1, using="elsewhere"):
        pass
