"""`reset.py`, with what `session.py` remembers of a new session."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.session.reset import Reset


class Resetter:
    """A `Reset` that counts how often it configured a session."""

    def __init__(self, reset: Any) -> None:
        config = PoolConfig.from_settings("default", {"OPTIONS": {"pool": {"reset": reset}}})
        assert config is not None
        self.configured = 0
        self.reset = Reset("books", config, self._configure)

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        self.configured += 1

    def needed(self, lease: Lease) -> bool:
        return self.reset.is_needed(lease.connection, lease.session, lease.use)

    def apply(self, lease: Lease) -> bool:
        return self.reset.apply(lease.connection, lease.use)


@pytest.fixture
def lease(make_wrapper: Any) -> Lease:
    wrapper: DatabaseWrapper = make_wrapper()
    wrapper.ensure_connection()
    assert wrapper._lease is not None
    return wrapper._lease


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
def test_when_a_reset_is_needed(
    lease: Lease, reset: Any, untouched: bool, open_transaction: bool, changed: bool
) -> None:
    resetter, connection = Resetter(reset), lease.use.raw
    assert resetter.needed(lease) is untouched
    connection.execute("BEGIN")
    assert resetter.needed(lease) is open_transaction
    connection.rollback()
    connection.execute("SET work_mem = '5MB'")
    assert resetter.needed(lease) is changed


def test_an_open_transaction_alone_causes_no_reset(lease: Lease) -> None:
    resetter = Resetter("auto")
    lease.use.raw.execute("BEGIN")
    assert resetter.apply(lease) is False
    assert lease.connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert resetter.configured == 0


def test_a_clean_session_is_left_alone(lease: Lease) -> None:
    assert Resetter("auto").apply(lease) is False
    assert lease.connection.autocommit
    assert lease.connection.pgconn.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize("sql", ["SELECT 1", "SELECT 1/0"], ids=["open", "failed"])
def test_it_rolls_back(lease: Lease, sql: str) -> None:
    raw = lease.use.raw
    raw.autocommit = False
    try:
        raw.execute(sql)
    except psycopg.errors.DivisionByZero:
        pass
    Resetter("auto").apply(lease)
    assert lease.connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert lease.connection.autocommit


def test_it_puts_psycopgs_attributes_back(lease: Lease) -> None:
    raw, connection = lease.use.raw, lease.connection
    raw.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    raw.read_only = raw.deferrable = True
    raw.row_factory = psycopg.rows.dict_row
    raw.prepare_threshold = 7
    raw.add_notice_handler(print)
    Resetter("auto").apply(lease)
    assert connection.isolation_level is None
    assert connection.read_only is None
    assert connection.deferrable is None
    assert connection.row_factory is psycopg.rows.tuple_row
    assert connection.prepare_threshold is None
    assert connection._notice_handlers == []
    with connection.transaction():
        sql = "SHOW transaction_isolation"
        assert connection.execute(sql).fetchone() == ("read committed",)


def test_a_reset_configures_again_and_leaves_a_clean_session(lease: Lease) -> None:
    resetter = Resetter("auto")
    lease.use.raw.execute("SET work_mem = '5MB'")
    lease.use.raw.execute("BEGIN")
    assert resetter.apply(lease) is True
    assert resetter.configured == 1
    assert lease.connection.execute("SHOW work_mem").fetchone() != ("5MB",)
    assert lease.session.announced_to is None


def test_a_callable_must_leave_no_transaction(lease: Lease) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="left it in status INTRANS"):
        Resetter(lambda connection: connection.execute("BEGIN")).apply(lease)


def test_a_connection_that_a_callable_keeps_is_of_no_use_to_it(lease: Lease) -> None:
    kept: list[psycopg.Connection[Any]] = []
    Resetter(kept.append).apply(lease)
    with pytest.raises(psycopg.InterfaceError, match="returned to its pool"):
        kept[0].execute("SELECT 1")
    assert lease.use.raw.execute("SELECT 1").fetchone() == (1,)
