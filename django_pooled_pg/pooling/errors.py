"""Defines the errors that users meet; holds no logic of the pool.

All are subclasses of what Django users already catch.
"""

from __future__ import annotations

from django.db import OperationalError, ProgrammingError


class PoolExhausted(OperationalError):
    """No connection could be lent within `timeout`, or too many borrowers wait already.

    Subclass of `django.db.OperationalError`. `alias` names the pool, and `timeout` is its
    `timeout` in seconds. The `__cause__` is psycopg_pool's own error (`PoolTimeout` or
    `TooManyRequests`).
    """

    def __init__(self, message: str, *, alias: str, timeout: float) -> None:
        super().__init__(message)
        self.alias = alias
        self.timeout = timeout


class RequestAbandoned(OperationalError):
    """The client of a request has gone, so the request's work with the database is stopped.

    Subclass of `django.db.OperationalError`. `waiting` is true if the request was waiting for a
    connection. Otherwise a statement was canceled (psycopg's `QueryCanceled` is the `__cause__`) or
    not run at all.
    """

    def __init__(self, message: str, *, waiting: bool = False) -> None:
        super().__init__(message)
        self.waiting = waiting


class DeadlineExceeded(OperationalError):
    """The deadline of a block of code has passed: see `django_pooled_pg.deadline`.

    Subclass of `django.db.OperationalError`. For a canceled statement, the `__cause__` is psycopg's
    `QueryCanceled`; for a wait for a connection, it is psycopg_pool's `PoolTimeout`.
    """


class ForkedInTransaction(ProgrammingError):
    """A forked child used the database inside its parent's atomic block.

    Subclass of `django.db.ProgrammingError`, which Django itself raises for a query on a
    connection that was closed inside an atomic block.
    """
