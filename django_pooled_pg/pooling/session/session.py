"""What is known of one server session for all its life; must not know who uses it.

Relies on psycopg's private names listed in `ATTRIBUTES` and in `put_back`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from ..work.stops import Stops
from .liveness import Poll, poll_of

_ATTRIBUTE = "_django_pooled_pg_session"

# Parameters that PostgreSQL reports when they change, and that a borrower may change:
# https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
# search_path is reported from PostgreSQL 18 on.
REPORTED = (
    b"search_path",
    b"TimeZone",
    b"session_authorization",
    b"default_transaction_read_only",
    b"application_name",
    b"client_encoding",
    b"DateStyle",
)

# psycopg's own attributes of a connection, which a borrower may change.
ATTRIBUTES = (
    "_autocommit",
    "_isolation_level",
    "_read_only",
    "_deferrable",
    "_num_transactions",
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
)
_HANDLERS = ("_notice_handlers", "_notify_handlers")
_PREPARING = ("prepare_threshold", "prepared_max")
# What an open pipeline or two-phase transaction leaves in the connection.
_ONGOING = ("_pipeline", "_tpc")

_Connection = psycopg.Connection[Any]
IDLE = int(TransactionStatus.IDLE)


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Session:
    """One server session, from connect to disconnect. Times are `time.monotonic()` readings."""

    # The connection's __dict__, and libpq's connection.
    namespace: dict[str, Any]
    pgconn: Any
    # Makes handles that share it; and the last ones made, unless they were taken away. See
    # `use.py`.
    make_handles: Callable[[dict[str, Any]], tuple[Any, Any]]
    handles: tuple[Any, Any] | None = None
    # Counts the statements that were stopped; belongs to the pool.
    stops: Stops
    # Whether its connection is a proxy, which can't have handles.
    is_proxied: bool = False
    # The class of its cursors, if that can be called directly.
    cursor_class: Any = None
    # The time zone of the times that its cursors load.
    timezone: Any = None
    # The connection's attributes and the reported parameters, from when it was clean.
    attributes: tuple[Any, ...]
    parameters: list[bytes | None]
    idle_since: float = field(default_factory=monotonic)
    # The receivers that were told of it since it was new or reset; see `announcing.py`.
    announced_to: list[Any] | None = None
    # Whether the pool does something with it, so that it isn't lost, however long that takes.
    is_busy: bool = False
    # Whether it was given up because nobody seemed to have it.
    given_up: bool = False
    # Whether the server refused writes from the start: a standby, for example.
    read_only_from_start: bool = False
    # When it was opened, or last asked whether it accepts writes.
    checked_at: float = field(default_factory=monotonic)
    # Polls its socket; only for whoever has the session to itself.
    poll: Poll

    def new_handles(self) -> tuple[Any, Any]:
        """Return handles, and keep them for the next use."""
        self.handles = handles = self.make_handles(self.namespace)
        return handles


def remember(
    connection: _Connection,
    make_handles: Callable[[dict[str, Any]], tuple[Any, Any]],
    stops: Stops,
) -> Session:
    """Note the state of a new session."""
    session = Session(
        namespace=connection.__dict__,
        pgconn=connection.pgconn,
        make_handles=make_handles,
        stops=stops,
        cursor_class=_cursor_class_of(connection),
        attributes=_attributes_of(connection),
        parameters=parameters_of(connection),
        poll=poll_of(connection),
        read_only_from_start=any(
            connection.pgconn.parameter_status(name) == b"on"
            for name in (b"in_hot_standby", b"default_transaction_read_only")
        ),
    )
    # On the connection itself: found without a lookup, gone together with it.
    setattr(connection, _ATTRIBUTE, session)
    return session


session_of: Callable[[_Connection], Session] = attrgetter(_ATTRIBUTE)
"""Return what is known of the connection's session."""


def renew(connection: _Connection) -> None:
    """Take the present state as the clean one; whoever produced it calls this each time."""
    session = session_of(connection)
    session.attributes = _attributes_of(connection)
    session.cursor_class = _cursor_class_of(connection)
    session.parameters = parameters_of(connection)


def has_its_attributes(connection: _Connection, session: Session) -> bool:
    """Tell whether psycopg's attributes are as they were when the session was clean."""
    return _attributes_of(connection) == session.attributes


def is_ongoing(connection: _Connection) -> bool:
    """Tell whether a pipeline or a two-phase transaction was left open."""
    return any(getattr(connection, name) is not None for name in _ONGOING)


def put_back(connection: _Connection, session: Session) -> None:
    """Restore the values that psycopg's attributes had when the session was clean."""
    attributes = connection.__dict__
    own, handlers, preparing = session.attributes
    # Not through its properties, which take the connection's lock.
    attributes.update(zip(ATTRIBUTES, own, strict=True), _begin_statement=b"")
    for name, clean in zip(_HANDLERS, handlers, strict=True):
        attributes[name][:] = clean
    for name, clean in zip(_PREPARING, preparing, strict=True):
        setattr(attributes["_prepared"], name, clean)


def parameters_of(connection: _Connection) -> list[bytes | None]:
    """Return the parameters that the server has reported."""
    return list(map(connection.pgconn.parameter_status, REPORTED))


def _cursor_class_of(connection: _Connection) -> Any:
    factory = connection.cursor_factory
    if getattr(type(connection), "cursor", None) is not psycopg.Connection.cursor:
        return None  # the connection's class makes its own, or it is a proxy
    return factory if getattr(factory, "notes_statements", False) else None


_own: Callable[[_Connection], tuple[Any, ...]] = attrgetter(*ATTRIBUTES)
_handlers: Callable[[_Connection], tuple[list[Any], ...]] = attrgetter(*_HANDLERS)
_preparing: Callable[[Any], tuple[Any, ...]] = attrgetter(*_PREPARING)


def _attributes_of(connection: _Connection) -> tuple[Any, ...]:
    handlers = tuple(list(each) for each in _handlers(connection))
    return _own(connection), handlers, _preparing(connection._prepared)
