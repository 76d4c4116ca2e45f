"""Takes a snapshot of one pool's figures from the parts that count them; keeps none."""

from __future__ import annotations

from .connector import Connector
from .ledger import Ledger
from .session.reset import Reset
from .statistics import PoolStatistics
from .supply import Supply


def figures_of(
    alias: str, pool_name: str, supply: Supply, ledger: Ledger, connector: Connector, reset: Reset
) -> PoolStatistics:
    """Return the figures of the pool that these parts make up."""
    config, gate, counters, member = supply.config, supply.gate, ledger.counters, supply.member
    stops = connector.stops
    with ledger.lock:
        backing = ledger.backing
        in_use = len(ledger.leases)
        borrows = counters.returns + in_use
        counters.add_held_lately()
        wait = counters.waits.copy()
        wait.buckets[0] += borrows - sum(wait.buckets)  # those who found an idle one
        return PoolStatistics(
            alias=alias,
            name=pool_name,
            pool_class=config.pool_class,
            return_at=config.return_at,
            min_size=config.min_size,
            max_size=config.max_size,
            timeout=config.timeout,
            paused=not gate.is_open(),
            size=backing.size if backing is not None else in_use,
            in_use=in_use,
            idle=backing.idle if backing is not None else 0,
            waiting=gate.waiting + (backing.waiting if backing is not None else 0),
            budget=config.budget or 0,
            slots=len(member.holding) if member is not None else 0,
            slots_wanted=member.record.wanted if member is not None else 0,
            slots_given=member.record.given if member is not None else 0,
            borrows=borrows,
            returns=counters.returns,
            wait=wait,
            held=counters.held.copy(),
            worked_total=counters.worked_total,
            exhausted=counters.exhausted,
            abandoned_waiting=stops.abandoned_waiting,
            abandoned_working=stops.abandoned_working,
            deadlines=stops.deadlines,
            reclaimed=counters.reclaimed,
            pinned=counters.pinned,
            dead=counters.dead,
            resets=reset.resets,
            connects=connector.attempts,
            connect_errors=connector.failures,
            connect=connector.durations.copy(),
        )
