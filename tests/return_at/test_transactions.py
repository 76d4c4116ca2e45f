"""A connection goes back at the end of its transaction, however that ends."""

from __future__ import annotations

import unittest
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import IntegrityError, close_old_connections, transaction
from django.test import TestCase

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    MakeKnown,
    execute,
    fail,
    held,
    statistics,
)
from tests.support.queries import backend_pid, fetch


def test_an_atomic_block_keeps_it_and_returns_it_at_its_end(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        assert held(wrapper) == 1
        pid = backend_pid(wrapper)
        assert held(wrapper) == 1
        assert backend_pid(wrapper) == pid
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_only_the_outermost_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        with transaction.atomic(using=wrapper.alias):
            backend_pid(wrapper)
        assert held(wrapper) == 1
        with transaction.atomic(using=wrapper.alias, savepoint=False):
            backend_pid(wrapper)
        assert held(wrapper) == 1
    assert held(wrapper) == 0


def test_a_block_that_nobody_queried_in_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        pass
    assert held(wrapper) == 0


def test_a_block_that_ends_with_an_exception_returns_it(wrapper: DatabaseWrapper) -> None:
    @transaction.atomic(using=wrapper.alias)
    def work() -> None:
        backend_pid(wrapper)
        fail()

    with pytest.raises(RuntimeError, match="no"):
        work()
    assert held(wrapper) == 0


def test_an_error_of_the_database_in_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with (
        pytest.raises(Exception, match="division by zero"),
        transaction.atomic(using=wrapper.alias),
    ):
        execute(wrapper, "SELECT 1/0")
    assert held(wrapper) == 0
    assert backend_pid(wrapper)


def test_an_error_of_the_database_outside_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with pytest.raises(Exception, match="division by zero"):
        execute(wrapper, "SELECT 1/0")
    assert held(wrapper) == 0


def test_a_commit_that_fails_returns_it(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "DROP TABLE IF EXISTS once")
    execute(wrapper, "CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(IntegrityError), transaction.atomic(using=wrapper.alias):
        execute(wrapper, "INSERT INTO once VALUES (1), (1)")
    assert held(wrapper) == 0
    assert not wrapper.in_atomic_block
    assert fetch(wrapper, "SELECT count(*) FROM once") == 0
    execute(wrapper, "DROP TABLE once")


def test_a_block_that_is_set_to_roll_back_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        wrapper.set_rollback(True)
    assert held(wrapper) == 0


def test_close_inside_a_block_returns_it(wrapper: DatabaseWrapper) -> None:
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        wrapper.close()
        assert held(wrapper) == 0
    assert held(wrapper) == 0
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
    assert held(wrapper) == 0


def test_autocommit_switched_off_keeps_it_until_it_is_on_again(wrapper: DatabaseWrapper) -> None:
    wrapper.set_autocommit(False)
    assert held(wrapper) == 1
    backend_pid(wrapper)
    wrapper.commit()
    assert held(wrapper) == 1
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
    assert held(wrapper) == 1
    wrapper.rollback()
    assert held(wrapper) == 1
    wrapper.set_autocommit(True)
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_transaction_begun_by_hand_keeps_it_until_its_end(wrapper: DatabaseWrapper) -> None:
    execute(wrapper, "BEGIN")
    assert held(wrapper) == 1
    pid = backend_pid(wrapper)
    assert backend_pid(wrapper) == pid
    assert held(wrapper) == 1
    execute(wrapper, "COMMIT")
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_a_test_case_keeps_its_connection(database: dict[str, Any], make_known: MakeKnown) -> None:
    wrapper = make_known(return_at="transaction")
    pids, holds = [], []

    class Case(TestCase):
        databases = {wrapper.alias}

        def look(self) -> None:
            pids.append(backend_pid(wrapper))
            holds.append(held(wrapper))

        def test(self) -> None:
            self.look()
            with transaction.atomic(using=wrapper.alias, durable=True):
                self.look()
            request_started.send(sender=None)
            self.look()
            request_finished.send(sender=None)
            self.look()

    # As Django's test client does: a request inside a test doesn't end the test's transaction.
    for signal in request_started, request_finished:
        signal.disconnect(close_old_connections)
    try:
        result = unittest.TestResult()
        unittest.TestSuite([Case("test")]).run(result)
    finally:
        for signal in request_started, request_finished:
            signal.connect(close_old_connections)
    assert not result.errors
    assert not result.failures
    assert len(set(pids)) == 1
    assert set(holds) == {1}
    assert held(wrapper) == 0
