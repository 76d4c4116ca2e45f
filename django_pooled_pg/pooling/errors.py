"""Owns the errors that users meet; holds no logic of the pool.

All of them are subclasses of what Django users already catch.
"""

from __future__ import annotations

from django.db import OperationalError, ProgrammingError


class PoolExhausted(OperationalError):
    """No connection could be lent within `timeout`, or too many borrowers wait already.

    Subclass of `django.db.OperationalError`. `alias` names the pool and `timeout` is its
    `timeout` in seconds; the original psycopg_pool error (`PoolTimeout` or
    `TooManyRequests`) is the `__cause__`.
    """

    def __init__(self, message: str, *, alias: str, timeout: float) -> None:
        super().__init__(message)
        self.alias = alias
        self.timeout = timeout


class RequestAbandoned(OperationalError):
    """The client of a request has gone, so what the request does with the database is stopped.

    Subclass of `django.db.OperationalError`. `waiting` tells whether it waited for a connection;
    otherwise a statement was canceled (then psycopg's `QueryCanceled` is the `__cause__`), or not
    run at all.
    """

    def __init__(self, message: str, *, waiting: bool = False) -> None:
        super().__init__(message)
        self.waiting = waiting


class DeadlineExceeded(OperationalError):
    """The deadline of a block of code has passed: see `django_pooled_pg.deadline`.

    Subclass of `django.db.OperationalError`. Of a statement that was canceled, psycopg's
    `QueryCanceled` is the `__cause__`; of a wait for a connection, psycopg_pool's `PoolTimeout`.
    """


class ForkedInTransaction(ProgrammingError):
    """A forked child used the database inside its parent's atomic block.

    Subclass of `django.db.ProgrammingError`, which Django itself raises for a query on a
    connection that was closed inside an atomic block.
    """
