"""Owns what we know of a server session: its state when new, and how to get back to it.

Must not know who uses the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus

_ATTRIBUTE = "_django_pooled_pg_session"


@dataclass(slots=True, eq=False)
class Session:
    """One server session, from connect to disconnect."""

    isolation_level: psycopg.IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    # Whether `connection_created` was sent for it.
    announced: bool = False


def remember(connection: psycopg.Connection[Any]) -> None:
    """Note the state of a session that is new."""
    # On the connection itself: found without a lookup, gone together with it.
    session = Session(connection.isolation_level, connection.read_only, connection.deferrable)
    setattr(connection, _ATTRIBUTE, session)


def session_of(connection: psycopg.Connection[Any]) -> Session:
    """Return what is known of the connection's session."""
    return cast(Session, getattr(connection, _ATTRIBUTE))


def restore(connection: psycopg.Connection[Any]) -> None:
    """End what the borrower left open and put psycopg's own attributes back.

    Raises `psycopg.Error` when the server can't be asked to roll back.
    """
    status = connection.pgconn.transaction_status
    if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        connection.rollback()
    if not connection.autocommit:
        connection.autocommit = True
    session = session_of(connection)
    if connection.isolation_level is not session.isolation_level:
        connection.isolation_level = session.isolation_level
    if connection.read_only is not session.read_only:
        connection.read_only = session.read_only
    if connection.deferrable is not session.deferrable:
        connection.deferrable = session.deferrable
