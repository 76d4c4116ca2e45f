"""What `exhaustion.py` says in the errors of `errors.py`; forks are in `tests/faults/test_fork.py`."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any, cast

import psycopg
import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from django_pooled_pg import PoolExhausted
from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.exhaustion import explain
from django_pooled_pg.pooling.lease import Lease
from django_pooled_pg.pooling.process.borrowers import Borrower
from tests.conftest import MakeWrapper

CONFIG = PoolConfig(max_size=4, timeout=2.5, max_waiting=7)


def test_a_time_out() -> None:
    said = explain("default", "books", CONFIG, PoolTimeout(), [], 3, None)
    assert said == (
        f"Pool 'books' in process {os.getpid()}: no connection was free within 2.5 s (timeout). "
        "0 of 4 (max_size) connections are in use, 3 borrowers wait. Check whether the server "
        "or the network is slow to connect, or raise timeout in "
        "DATABASES['default']['OPTIONS']['pool']."
    )


def test_the_advice_is_about_holders_where_there_are_some() -> None:
    nothing = cast(Any, None)
    lease = Lease(
        pool=nothing,
        connection=nothing,
        session=nothing,
        use=nothing,
        backing=nothing,
        holder=None,
        borrower=Borrower(-1, "worker-7"),
        since=monotonic(),
    )
    said = explain("default", "books", CONFIG, PoolTimeout(), [lease], 3, None)
    assert "Held longest by: worker-7" in said
    assert said.endswith(
        "Hold connections for a shorter time, or raise max_size or timeout in "
        "DATABASES['default']['OPTIONS']['pool']."
    )


def test_a_budget_that_others_have() -> None:
    said = explain("default", "books", CONFIG, PoolTimeout(), [], 1, None, "gunicorn (9) has 8.")
    assert "1 borrowers wait. gunicorn (9) has 8. Look who has the connections of the" in said
    assert "or raise budget or timeout in DATABASES" in said


def test_a_check_that_refuses_each_connection(make_wrapper: MakeWrapper) -> None:
    def refuse(connection: Any) -> None:
        raise ValueError("no such tenant")

    wrapper = make_wrapper({"max_size": 1, "timeout": 0.2, "check": refuse})
    with pytest.raises(
        PoolExhausted,
        match=r"The last connection was refused by 'check': no such tenant\. Find out why "
        r"connections are refused, or change 'check' in DATABASES",
    ):
        wrapper.ensure_connection()


def test_too_many_that_wait() -> None:
    said = explain("default", "books", CONFIG, TooManyRequests(), [], 7, None)
    assert "7 borrowers (max_waiting) wait already" in said


def test_a_servers_words_and_a_threads_name_forge_no_line() -> None:
    nothing = cast(Any, None)
    lease = Lease(
        nothing, nothing, nothing, nothing, nothing, None, Borrower(-1, "a\nb\x1b[2J"), monotonic()
    )
    error = psycopg.OperationalError("no\x1b[2J\nCRITICAL")
    said = explain("default", "books", CONFIG, PoolTimeout(), [lease], 3, error)
    assert said.isprintable()
    assert r"Held longest by: a\nb\x1b[2J (-1)" in said
    assert r"failed: no\x1b[2J\nCRITICAL." in said


def test_the_last_error_of_a_connect() -> None:
    error = psycopg.OperationalError("too many clients already")
    said = explain("default", "books", CONFIG, PoolTimeout(), [], 1, error)
    assert "The last attempt to connect failed: too many clients already." in said
