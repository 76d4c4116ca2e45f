from __future__ import annotations

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.test import Client
from django.test.client import ClientHandler

from django_pooled_pg.pooling.process.borrowers import borrower


def test_a_request_is_known_from_its_begin_to_its_end() -> None:
    assert not borrower().in_request
    request_started.send(sender=WSGIHandler)
    assert borrower().in_request
    request_finished.send(sender=WSGIHandler)
    assert not borrower().in_request


@pytest.mark.django_db(transaction=True)
def test_a_request_of_the_test_client_within_another() -> None:
    request_started.send(sender=WSGIHandler)
    assert Client().get("/pid").status_code == 200
    assert borrower().in_request
    request_finished.send(sender=WSGIHandler)
    assert not borrower().in_request


def test_what_the_test_client_did_not_end_ends_with_the_request() -> None:
    request_started.send(sender=WSGIHandler)
    request_started.send(sender=ClientHandler)
    request_finished.send(sender=WSGIHandler)
    assert not borrower().in_request
    request_started.send(sender=ClientHandler)
    request_finished.send(sender=ClientHandler)
    assert not borrower().in_request
