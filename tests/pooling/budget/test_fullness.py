from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper
from django_pooled_pg.pooling.budget.fullness import missing_room, says_full


@pytest.mark.parametrize(
    ("said", "full"),
    [
        ("FATAL:  sorry, too many clients already", True),
        ('FATAL:  too many connections for role "books"', True),
        ("FATAL:  remaining connection slots are reserved for roles", True),
        ("FATAL:  no more connections allowed (max_client_conn)", True),
        ("connection refused", False),
    ],
)
def test_refusals_for_want_of_room_are_known(said: str, full: bool) -> None:
    assert says_full(psycopg.OperationalError(said)) is full


def test_a_server_with_room_misses_none(connection: psycopg.Connection[Any]) -> None:
    assert missing_room(connection) == 0


def test_a_role_that_is_at_its_limit_misses_some(
    make_wrapper: Callable[..., DatabaseWrapper],
) -> None:
    owner = make_wrapper()
    with owner.cursor() as cursor:
        cursor.execute("CREATE ROLE full_one LOGIN CONNECTION LIMIT 0")
    try:
        ours = make_wrapper()
        with ours.cursor() as cursor:
            cursor.execute("SET SESSION AUTHORIZATION full_one")
            assert missing_room(ours.connection) == 1
            cursor.execute("RESET SESSION AUTHORIZATION")
    finally:
        with owner.cursor() as cursor:
            cursor.execute("DROP ROLE full_one")
