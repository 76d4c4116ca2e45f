"""Owns telling how full the server is: by what it says when it refuses, and by asking it."""

from __future__ import annotations

import psycopg

from ..config import Connection
from ..session.liveness import exchange

# Of SQLSTATE 53300, which libpq doesn't tell of a connect that failed; and PgBouncer's.
# In English, as servers have it unless lc_messages says otherwise.
_REFUSALS = (
    "too many connections",
    "too many clients",
    "remaining connection slots",
    "no more connections allowed",
)

# The fewest that are still allowed, by the limits for the role, the database and all. Every role may
# read these. As in `monitoring/server.py`: what kind a session of another role is, is hidden.
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
    """Tell whether the server, or PgBouncer, refused a connection for want of room."""
    return any(refusal in str(error) for refusal in _REFUSALS)


def missing_room(connection: Connection) -> int:
    """Ask the server how many sessions it has too many, to have a little room; 0: it isn't full.

    A little room is 5 % of what is allowed, and at least one session. Raises `psycopg.Error`, and
    `TimeoutError`; after either the connection is good for nothing but closing.
    """
    try:
        (result,) = exchange(connection, _ROOM)
    except psycopg.ProgrammingError:
        return 0  # not PostgreSQL, or one whose catalogs are closed
    room = result.get_value(0, 0)
    return max(0, 1 - int(room)) if room is not None else 0
