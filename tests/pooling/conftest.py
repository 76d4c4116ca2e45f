"""Fixtures for the pool's parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from django_pooled_pg.base import DatabaseWrapper


@pytest.fixture
def connection(make_wrapper: Callable[..., DatabaseWrapper]) -> psycopg.Connection[Any]:
    """A connection that is lent, as its pool made it."""
    wrapper = make_wrapper()
    wrapper.ensure_connection()
    connection: psycopg.Connection[Any] = wrapper.connection
    return connection
