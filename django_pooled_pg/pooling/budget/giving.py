"""Gives connections up: to members that want them, and to others when the server is full."""

from __future__ import annotations

import logging
from math import inf
from time import monotonic

import psycopg

from ..backing.null import AnyBacking
from ..config import Connection
from ..session.session import session_of
from .fullness import missing_room
from .membership import Membership
from .records import FRESH, Record
from .sharing import claims_of, gift_of, limit_of

logger = logging.getLogger(__name__)

# Seconds of idleness after which a connection may go to others; for a new connection it takes
# longer, and for the sake of a full server, longer still.
_IDLE = 0.02
# For a connection of a member that lends none now.
_IDLE_AT_REST = 0.005
_NEW = 1.0
_NEW_IDLE = 0.1
_UNUSED = 1.0
# A member that lent a connection this recently is busy.
_LATELY = 0.1
# Between two looks at how full the server is, over all members.
_LOOK_EVERY = 1.0


class Giving:
    """What one member gives up, and says of itself."""

    def __init__(self, pool_name: str) -> None:
        self._pool_name = pool_name
        # Whether it has idle connections that are wanted, but were just used or are new.
        self.has_more_soon = False
        # Since when another one has been giving, whenever this one looked.
        self._barred_since = inf
        # What was logged: once is enough.
        self._said: set[str] = set()

    def tell(self, membership: Membership, record: Record) -> None:
        """Tell the others; if that fails, nobody shares with this member."""
        try:
            membership.tell(record)
        except OSError as ex:  # a full disk; locks need no space on it
            self._say("Pool %r: can't tell others what it needs of their budget: %s", ex)

    def busy(self, backing: AnyBacking | None) -> int:
        """Return how many connections are lent; 1 if none is, but one was just now."""
        if backing is None:
            return 0
        last = backing.last_idle()
        lately = last is not None and monotonic() - session_of(last).idle_since < _LATELY
        return max(backing.busy, int(lately))

    def give(
        self,
        membership: Membership,
        backing: AnyBacking | None,
        me: Record,
        records: list[Record],
    ) -> tuple[list[Connection], bool]:
        """Return connections to be closed, and whether others want more, which are to follow."""
        self._compare(records)
        self.has_more_soon = False
        if backing is None:
            return [], False
        now = monotonic()
        wanted = bool([claim for claim in claims_of(records, now) if claim.index != me.index])
        wanted = wanted or sum(record.held for record in records) > limit_of(records)
        if not wanted:
            self._barred_since = inf
            me.promised = 0
            backing.promise(0)
            return self._make_room(membership, backing, me, records), False
        locked = membership.file.lock_giving()
        self._barred_since = inf if locked else min(self._barred_since, now)
        if not locked and now - self._barred_since < FRESH:
            return [], True  # somebody else is at it: then see what is missing yet
        # Or was stopped at it: better too much is given up than nothing.
        try:
            return self._given(membership, backing, me), True
        finally:
            if locked:
                membership.file.unlock_giving()

    def _given(self, membership: Membership, backing: AnyBacking, me: Record) -> list[Connection]:
        # Read anew: another member may just have given what was wanted.
        now = monotonic()
        gift = gift_of(me, membership.records(), now)

        def may_go(connection: Connection) -> bool:
            least = _UNUSED if gift.spares else _IDLE if backing.busy else _IDLE_AT_REST
            return gift.urgent or _is_idle(backing, connection, now, least)

        keep = 0 if gift.turn else me.min_size
        idle = backing.give_up_idle(gift.idle, keep, may_go)
        self.has_more_soon = len(idle) < min(gift.idle, backing.idle, backing.size - keep)
        me.promised = max(0, gift.returned - len(idle))
        backing.promise(me.promised)
        me.held -= len(idle)
        self.tell(membership, me)
        return idle

    def _make_room(
        self, membership: Membership, backing: AnyBacking, me: Record, records: list[Record]
    ) -> list[Connection]:
        """Give up idle connections if the server is nearly full: other hosts may need them."""
        now = monotonic()
        if max(record.looked_at for record in records) > now - _LOOK_EVERY:
            return []
        if backing.size <= me.min_size:
            return []

        def unused(connection: Connection) -> bool:
            return _is_idle(backing, connection, now, _UNUSED)

        idle = backing.take_idle_if(unused)
        if not idle:
            return []
        me.looked_at = now
        self.tell(membership, me)
        asked, *others = idle
        for connection in others:
            backing.put(connection)
        missing = self._asked(backing, asked)
        return backing.give_up_idle(missing, me.min_size, unused) if missing else []

    def _asked(self, backing: AnyBacking, connection: Connection) -> int:
        session_of(connection).is_busy = True
        try:
            missing = missing_room(connection)
        except (psycopg.Error, TimeoutError):
            backing.drop(connection)
            return 0
        finally:
            session_of(connection).is_busy = False
        backing.put(connection)
        return missing

    def _compare(self, records: list[Record]) -> None:
        if len({record.limit for record in records}) > 1:
            self._say(
                "Pool %r: processes have different budgets; the smallest counts: %s",
                limit_of(records),
            )
        if sum(record.min_size for record in records) > limit_of(records):
            self._say(
                "Pool %r: 'min_size' of all processes together is more than the budget of %s: "
                "idle processes keep fewer connections",
                limit_of(records),
            )

    def _say(self, message: str, what: object) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, self._pool_name, what)


def _is_idle(backing: AnyBacking, connection: Connection, now: float, least: float) -> bool:
    new = now - backing.made_at(connection) < _NEW
    return now - session_of(connection).idle_since >= (max(least, _NEW_IDLE) if new else least)
