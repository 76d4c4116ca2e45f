from __future__ import annotations

import os

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from django_pooled_pg.pooling.config import PoolConfig
from django_pooled_pg.pooling.exhaustion import explain

CONFIG = PoolConfig(max_size=4, timeout=2.5, max_waiting=7)


def test_a_time_out() -> None:
    said = explain("default", "books", CONFIG, PoolTimeout(), [], 3, None)
    assert said == (
        f"Pool 'books' in process {os.getpid()}: no connection was free within 2.5 s (timeout). "
        "0 of 4 (max_size) connections are in use, 3 borrowers wait. Hold connections for a "
        "shorter time, or raise max_size or timeout in DATABASES['default']['OPTIONS']['pool']."
    )


def test_too_many_that_wait() -> None:
    said = explain("default", "books", CONFIG, TooManyRequests(), [], 7, None)
    assert "7 borrowers (max_waiting) wait already" in said


def test_the_last_error_of_a_connect() -> None:
    error = psycopg.OperationalError("too many clients already")
    said = explain("default", "books", CONFIG, PoolTimeout(), [], 1, error)
    assert "The last attempt to connect failed: too many clients already." in said
