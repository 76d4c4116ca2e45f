"""Explains why no connection could be lent; raises nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from psycopg_pool import PoolTimeout, TooManyRequests

from .config import PoolConfig
from .lease import Lease, describe_longest
from .printable import printable


class Paused(PoolTimeout):
    """The pool is paused: not resumed in time or, with `full`, too many borrowers wait already."""

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.full = full


def explain(
    alias: str,
    pool_name: str,
    config: PoolConfig,
    cause: PoolTimeout | TooManyRequests,
    leases: Sequence[Lease],
    waiting: int,
    connect_error: Exception | None,
    budget: str = "",
    refusal: str = "",
) -> str:
    """Say what happened, in which pool, who holds the connections, and what to do about it."""
    if isinstance(cause, TooManyRequests):
        what = f"{config.max_waiting} borrowers (max_waiting) wait already"
    elif isinstance(cause, Paused) and cause.full:
        what = f"it is paused, and {config.max_waiting} borrowers (max_waiting) wait already"
    elif isinstance(cause, Paused):
        what = f"it is paused, and was not resumed within {config.timeout:g} s (timeout)"
    else:
        what = f"no connection was free within {config.timeout:g} s (timeout)"
    message = (
        f"Pool {pool_name!r} in process {os.getpid()}: {what}. "
        f"{len(leases)} of {config.max_size} (max_size) connections are in use, "
        f"{waiting} borrowers wait."
    )
    if leases:
        message += f" Held longest by: {printable(describe_longest(leases))}."
    if connect_error is not None:
        message += f" The last attempt to connect failed: {printable(str(connect_error))}."
    if refusal:
        message += f" The last connection was refused by 'check': {printable(refusal)}."
    if budget:
        message = " ".join((message, budget))
    if isinstance(cause, Paused):
        return f"{message} To go on: manage.py poolctl resume {alias}"
    advice = _advice(
        bool(leases) or isinstance(cause, TooManyRequests), bool(refusal), bool(budget)
    )
    return f"{message} {advice} in DATABASES[{alias!r}]['OPTIONS']['pool']."


def _advice(is_busy: bool, is_refused: bool, has_budget: bool) -> str:
    if is_busy:
        return "Hold connections for a shorter time, or raise max_size or timeout"
    if is_refused:
        return "Find out why connections are refused, or change 'check'"
    if has_budget:
        return (
            "Look who has the connections of the budget, and whether the server and the network are "
            "slow to connect, or raise budget or timeout"
        )
    return "Check whether the server or the network is slow to connect, or raise timeout"
