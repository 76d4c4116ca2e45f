"""The rules: who may take a free slot, and who gives connections up to whom.

Pure functions of the members' records, one's own included. All members decide by the same rules,
one after the other, so that together they give up what is wanted and no more:

1. Idle connections beyond `min_size` go first, whoever has them.
2. Then a member with more than its fair share gives up those that return next, to members with
   less. The fair share is the budget divided by the number of members that want or use connections.
3. If there are more members than slots, those that have none wait for their turn: the member that
   has had connections longest gives one up, after a second at the earliest.

A member that should give may be unable to: it is stopped, or its borrowers keep what they have. Once
another has waited for a second, others give in its place.

No thrashing: a member that got a connection keeps it for `TENURE`, unless another has none; and
between members with their fair shares, only what has been idle for a while moves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .records import FRESH, Record

# Seconds for which a member keeps a slot that it got.
TENURE = 1.0
# Seconds that idle connections have to arrive before others are given up.
_IDLE_FIRST = 0.02
_TURN_AFTER = 0.1
# Seconds that somebody waits for those who come first to give.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """How many connections a member has to give up.

    `idle`: of those idle beyond its `min_size`; `returned`: as they return. `urgent`: somebody has
    none, so it doesn't matter how new they are. `turn`: nor does `min_size`. `spares`: only those
    that it hasn't used for a while, because it has no more than its fair share.
    """

    idle: int = 0
    returned: int = 0
    urgent: bool = False
    turn: bool = False
    spares: bool = False


def limit_of(records: Collection[Record]) -> int:
    """Return the budget: the smallest one if settings differ."""
    return min(record.limit for record in records)


def claims_of(records: Collection[Record], now: float) -> list[Record]:
    """Return the members that want slots."""
    return [record for record in records if record.wanted and now - record.seen < FRESH]


def may_take(me: Record, records: Collection[Record], now: float) -> bool:
    """Tell whether `me` may take a free slot, or whether it is due to another member."""
    claims = [claim for claim in claims_of(records, now) if claim.index != me.index]
    if not claims:
        return True
    share = _fair_share(records, now)
    free = limit_of(records) - sum(record.held for record in records)
    ahead = claims if not me.wanted else [c for c in claims if _rank(c, share) < _rank(me, share)]
    return free > sum(_due(claim, share) for claim in ahead)


def _rank(claim: Record, share: int) -> tuple[bool, bool, float]:
    """Rank members with none first, then those below a fair share, then by the longest wait."""
    # Whoever gave one up because of its turn comes last, however long ago it began to want one.
    return claim.held > 0, claim.held >= share, max(claim.since, claim.got_at)


def _due(claim: Record, share: int) -> int:
    if not claim.held:
        return 1
    return min(claim.wanted, share - claim.held) if claim.held < share else claim.wanted


def _fair_share(records: Collection[Record], now: float) -> int:
    claims = claims_of(records, now)
    contenders = sum(bool(record.busy) or record in claims for record in records)
    return max(1, limit_of(records) // max(1, contenders))


def gift_of(me: Record, records: Collection[Record], now: float) -> Gift:
    """Return what `me` has to give up now; `records` has those of all, including `me`."""
    claims = claims_of(records, now)
    missing = sum(record.held for record in records) - limit_of(records)
    # What others give up on its return may take long: idle ones go in its place.
    needs_idle = sum(claim.wanted for claim in claims) + missing
    if needs_idle <= 0:
        return Gift()
    promised = sum(record.promised for record in records if record.index != me.index)
    urgent = any(not claim.held for claim in claims)
    returned = _beyond_share(me, records, claims, missing, promised, now)
    turn = 0 if returned else _turn(me, records, claims, missing - promised, now)
    if turn:
        return Gift(idle=turn, returned=turn, urgent=True, turn=True)
    spares = me.busy > 0 and me.held <= _fair_share(records, now)
    return Gift(idle=needs_idle, returned=returned, urgent=urgent, spares=spares)


def _waited(claims: Collection[Record], now: float) -> float:
    """Return for how many seconds one of these got nothing."""
    return max((now - max(claim.since, claim.got_at) for claim in claims), default=0.0)


def _beyond_share(
    me: Record,
    records: Collection[Record],
    claims: list[Record],
    missing: int,
    promised: int,
    now: float,
) -> int:
    share = _fair_share(records, now)
    poor = [claim for claim in claims if claim.held < share and claim.index != me.index]
    if _waited(poor, now) < _PATIENCE:
        missing -= promised
    if missing <= 0 and all(now - claim.since < _IDLE_FIRST for claim in poor):
        return 0  # idle connections elsewhere are on their way
    if now - me.got_at < TENURE:
        poor = [claim for claim in poor if not claim.held]
        wanted = len(poor)
    else:
        wanted = sum(min(claim.wanted, share - claim.held) for claim in poor)
    return max(0, min(wanted + missing, me.held - share))


def _turn(
    me: Record, records: Collection[Record], claims: list[Record], missing: int, now: float
) -> int:
    none = [claim for claim in claims if not claim.held and now - claim.since >= _TURN_AFTER]
    share = _fair_share(records, now)
    waited = _waited(none, now)
    rich = any(record.held > share for record in records if record.busy or record in claims)
    if rich and waited < _PATIENCE:
        return 0  # one of those gives, by the rule before this
    givers = [
        record
        for record in records
        if record.held and now - record.got_at >= TENURE and now - record.seen < FRESH
    ]
    givers.sort(key=lambda giver: (giver.busy + giver.wanted > 0, -giver.held, giver.got_at))
    wanted = min(len(none), len(none) + missing)
    if waited >= _PATIENCE:
        # Each second twice as many, as nobody knows which of them are stuck.
        wanted = len(none) << min(12, int(waited / _PATIENCE))
    return int(any(giver.index == me.index for giver in givers[: max(0, wanted)]))
