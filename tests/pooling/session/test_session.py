from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from django_pooled_pg.pooling.session import session


def test_restore_leaves_a_clean_session_alone(connection: psycopg.Connection[Any]) -> None:
    session.restore(connection)
    assert connection.autocommit
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize("sql", ["SELECT 1", "SELECT 1/0"], ids=["open", "failed"])
def test_restore_rolls_back(connection: psycopg.Connection[Any], sql: str) -> None:
    connection.autocommit = False
    try:
        connection.execute(sql)
    except psycopg.errors.DivisionByZero:
        pass
    session.restore(connection)
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert connection.autocommit


def test_restore_puts_psycopgs_attributes_back(connection: psycopg.Connection[Any]) -> None:
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.read_only = connection.deferrable = True
    session.restore(connection)
    assert connection.isolation_level is None
    assert connection.read_only is None
    assert connection.deferrable is None
