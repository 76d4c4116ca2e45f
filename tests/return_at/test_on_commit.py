"""Hooks run after the connection went back, and may borrow again."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    fail,
    held,
    statistics,
)
from tests.support.queries import backend_pid, fetch


def test_hooks_see_it_returned(wrapper: DatabaseWrapper) -> None:
    seen: list[int] = []
    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    assert seen == [0]


def test_hooks_may_query(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def query() -> None:
        seen.append(fetch(wrapper, "SELECT 42"))
        seen.append(held(wrapper))

    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(query, using=wrapper.alias)
        transaction.on_commit(query, using=wrapper.alias)
    assert seen == [42, 0, 42, 0]
    assert held(wrapper) == 0


def test_hooks_may_have_transactions_and_hooks(wrapper: DatabaseWrapper) -> None:
    seen: list[Any] = []

    def begin() -> None:
        with transaction.atomic(using=wrapper.alias, durable=True):
            transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
            seen.append(fetch(wrapper, "SELECT 42"))
            seen.append(held(wrapper))

    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(begin, using=wrapper.alias)
        transaction.on_commit(lambda: seen.append("last"), using=wrapper.alias)
    assert seen == [42, 1, 0, "last"]
    assert held(wrapper) == 0


def test_a_hook_that_fails_returns_it(wrapper: DatabaseWrapper) -> None:
    def query_and_fail() -> None:
        backend_pid(wrapper)
        fail()

    for hook in fail, query_and_fail:
        with (
            pytest.raises(RuntimeError, match="no"),
            transaction.atomic(using=wrapper.alias),
        ):
            transaction.on_commit(hook, using=wrapper.alias)
        assert held(wrapper) == 0
        assert not wrapper.in_atomic_block
    with transaction.atomic(using=wrapper.alias):
        assert backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_robust_hook_that_fails_returns_it(
    wrapper: DatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(fail, using=wrapper.alias, robust=True)
    assert "Error calling fail" in caplog.text
    assert held(wrapper) == 0


def test_hooks_of_a_commit_by_hand_see_it_returned(wrapper: DatabaseWrapper) -> None:
    seen: list[int] = []
    wrapper.set_autocommit(False)
    with transaction.atomic(using=wrapper.alias):
        backend_pid(wrapper)
        transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    wrapper.commit()
    assert seen == []
    wrapper.set_autocommit(True)
    assert seen == [0]
    assert held(wrapper) == 0


def test_nothing_is_borrowed_to_know_that_there_is_no_transaction(
    wrapper: DatabaseWrapper,
) -> None:
    seen: list[int] = []
    assert wrapper.get_autocommit()
    transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias)
    transaction.on_commit(lambda: seen.append(held(wrapper)), using=wrapper.alias, robust=True)
    assert seen == [0, 0]
    assert statistics(wrapper).borrows == 0
