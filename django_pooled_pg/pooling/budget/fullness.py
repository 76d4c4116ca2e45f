"""Tells how full the server is: from its refusals, and by asking it."""

from __future__ import annotations

import psycopg

from ..config import Connection
from ..session.liveness import exchange

# The texts of SQLSTATE 53300, a code that libpq doesn't report for a failed connect; and
# PgBouncer's. In English, as servers send them unless lc_messages says otherwise.
_REFUSALS = (
    "too many connections",
    "too many clients",
    "remaining connection slots",
    "no more connections allowed",
)

# The room left, by the tightest of the limits for the role, the database and the server. Every
# role may read these. As in `monitoring/server.py`, other roles' sessions hide their kind.
_ROOM = b"""
SELECT min(room - allowed / 20) FROM (
  SELECT rolconnlimit AS allowed, rolconnlimit - (
           SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_roles.oid
              AND coalesce(backend_type, 'client backend') = 'client backend') AS room
    FROM pg_roles WHERE rolname = session_user AND rolconnlimit >= 0
  UNION ALL
  SELECT datconnlimit, datconnlimit - (
           SELECT count(*) FROM pg_stat_activity WHERE datid = pg_database.oid
              AND coalesce(backend_type, 'client backend') = 'client backend')
    FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
  UNION ALL
  SELECT most, most - (
           SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL
              AND coalesce(backend_type, 'client backend') = 'client backend')
    FROM (SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true)::int, 0) AS most) AS all_
) AS limits
"""


def says_full(error: BaseException) -> bool:
    """Tell whether the server, or PgBouncer, refused a connection because it has no room."""
    return any(refusal in str(error) for refusal in _REFUSALS)


def missing_room(connection: Connection) -> int:
    """Ask the server by how many sessions it is too full; 0: it has a little room.

    A little room is 5 % of what is allowed, and at least one session. Raises `psycopg.Error` and
    `TimeoutError`; after either, the connection can only be closed.
    """
    try:
        (result,) = exchange(connection, _ROOM)
    except psycopg.ProgrammingError:
        return 0  # not PostgreSQL, or its catalogs are closed to us
    room = result.get_value(0, 0)
    return max(0, 1 - int(room)) if room is not None else 0
