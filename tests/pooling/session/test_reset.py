from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.session.reset import Cleaning
from django_pooled_pg.pooling.session.session import session_of


class Cleaner:
    """A `Cleaning` that counts how often it configured a session."""

    def __init__(self, reset: Any) -> None:
        config = PoolConfig.from_settings("default", {"OPTIONS": {"pool": {"reset": reset}}})
        assert config is not None
        self.configured = 0
        self.cleaning = Cleaning("books", config, self._configure)

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        self.configured += 1

    def needed(self, connection: psycopg.Connection[Any]) -> bool:
        return self.cleaning.is_needed(connection, session_of(connection))


@pytest.mark.parametrize(
    ("reset", "untouched", "open_transaction", "changed"),
    [
        ("auto", False, True, True),
        ("never", False, True, False),
        ("always", True, True, True),
        (lambda connection: None, True, True, True),
    ],
    ids=["auto", "never", "always", "callable"],
)
def test_when_cleaning_is_needed(
    connection: psycopg.Connection[Any],
    reset: Any,
    untouched: bool,
    open_transaction: bool,
    changed: bool,
) -> None:
    cleaner = Cleaner(reset)
    assert cleaner.needed(connection) is untouched
    connection.execute("BEGIN")
    assert cleaner.needed(connection) is open_transaction
    connection.rollback()
    connection.execute("SET work_mem = '5MB'")
    assert cleaner.needed(connection) is changed


def test_an_open_transaction_alone_causes_no_reset(connection: psycopg.Connection[Any]) -> None:
    cleaner = Cleaner("auto")
    connection.execute("BEGIN")
    assert cleaner.cleaning.clean(connection) is False
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert cleaner.configured == 0


def test_a_reset_configures_again_and_leaves_a_clean_session(
    connection: psycopg.Connection[Any],
) -> None:
    cleaner = Cleaner("auto")
    connection.execute("SET work_mem = '5MB'")
    connection.execute("BEGIN")
    assert cleaner.cleaning.clean(connection) is True
    assert cleaner.configured == 1
    assert not cleaner.needed(connection)
    assert session_of(connection).announced_to is None


def test_a_callable_must_leave_no_transaction(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="left it in status INTRANS"):
        Cleaner(lambda connection: connection.execute("BEGIN")).cleaning.clean(connection)
