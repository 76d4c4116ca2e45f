"""The rules that say what to change about one alias's pools, and why.

Each is a function that returns a sentence, with the figures behind it, or `None`.
`docs/advice.md` describes the same rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from .advice_known import ENOUGH, Known, count, product
from .columns import duration

# Times up to these hurt nobody.
_SHORT_WAIT = 0.01  # seconds
_SHORT_IDLING = 10.0  # seconds, in a transaction
# The default `timeout`, in seconds: by then, everybody who waits has been turned away.
_LONG_HELD = 10.0
_FEW_CONNECTIONS = 50  # of all processes together
_FEW_FAILURES = 3
# Failed connects by attempts, and needed ones by borrows.
_MANY_FAILED = 0.05
_MANY_CONNECTS = 0.1
_MANY_PINNED = 0.2  # by borrows
_MANY_RESETS = 0.2  # by returns
_MANY_STOPPED = 0.05  # by borrows, plus those who left before they had one


# The rules


def _paused(known: Known) -> str | None:
    paused = sum(pool["paused"] for pool in known.pools)
    if not paused:
        return None
    return (
        f"{paused} of {count(len(known.pools), 'pool')} paused, "
        f"{count(known.sum['waiting'], 'borrower')} waiting: resume with "
        "`manage.py poolctl resume`."
    )


def _connect_errors(known: Known) -> str | None:
    failed, attempts = known.sum["connect_errors"], known.sum["connects"]
    if failed < _FEW_FAILURES or failed < _MANY_FAILED * attempts:
        return None
    return (
        f"{failed} of {attempts} attempts to connect failed: the processes' log has the server's "
        "reason; `--server` shows whether the server has connections left."
    )


def _exhausted(known: Known) -> str | None:
    exhausted = known.sum["exhausted"]
    if not exhausted:
        return None
    timeout, longest = known.sum["timeout"], known.sum["held"]["max"]
    said = (
        f"{count(exhausted, 'borrower')} turned away, {known.sum['borrows']} got a connection "
        f"(timeout {duration(timeout)})"
    )
    if longest < timeout:
        raised = "the budget" if known.has_spent_budget else "max_size"
        return f"{said}; connections were held {duration(longest)} at most: raise {raised}."
    said += (
        f"; connections were held up to {duration(longest)}: find out by whom, with `--holders` "
        "now and with leak_threshold in the log."
    )
    if not known.cancels_abandoned:
        said += (
            " If by requests whose visitors have left, CancelAbandonedMiddleware, which isn't in "
            "MIDDLEWARE, stops them."
        )
    return said


def _abandoned(known: Known) -> str | None:
    waiting, working = known.sum["abandoned_waiting"], known.sum["abandoned_working"]
    asked = known.sum["borrows"] + waiting
    if asked < ENOUGH or waiting + working < _MANY_STOPPED * asked:
        return None
    remedy = "make these queries faster, or run them outside the request"
    if waiting > working:
        remedy = "raise max_size, or let requests hold connections for a shorter time"
    return (
        f"{waiting + working} requests were stopped because their clients had gone, {waiting} of "
        f"them while they waited for a connection ({known.sum['borrows']} borrows): visitors, or a "
        f"proxy, give up sooner than the site: {remedy}."
    )


def _deadlines(known: Known) -> str | None:
    deadlines, borrows = known.sum["deadlines"], known.sum["borrows"]
    if borrows < ENOUGH or deadlines < _MANY_STOPPED * borrows:
        return None
    return (
        f"{deadlines} pieces of work were stopped by their deadline ({borrows} borrows): each "
        "DeadlineExceeded says how much time went into waiting for connections and into "
        "statements; shorten that, or allow more time."
    )


def _held_long(known: Known) -> str | None:
    long = [holder for holder in known.holders if holder["held"] >= _LONG_HELD]
    if not long:
        return None
    longest = max(long, key=lambda holder: holder["held"])
    said = (
        f"{len(long)} of {known.sum['in_use']} in use have been held for {duration(_LONG_HELD)} "
        f"or longer, one for {duration(longest['held'])} by thread {longest['thread']} of process "
        f"{longest['pid']}, now {longest['place']}"
    )
    if known.sum["returns"] >= ENOUGH:
        said += f" (p95 of those returned: {duration(known.p95('held'))})"
    return (
        f"{said}: is it a leak? Return connections with returning_connections(), or around a "
        "long wait with without_connection()."
    )


def _held_and_worked(known: Known) -> str:
    held, worked = map(duration, known.means)
    return f"connections were held {held}, of which statements took {worked}"


def _waits(known: Known) -> str | None:
    """Describe long waits for the connections of full pools, if there are any."""
    p95 = known.p95("wait")
    if known.sum["borrows"] < ENOUGH or p95 <= _SHORT_WAIT or known.sum["paused"]:
        return None
    full = [pool for pool in known.pools if pool["size"] >= pool["max_size"]]
    if not full or known.has_spent_budget:
        return None
    most = max(pool["max_size"] for pool in full)
    using = [pool for pool in full if pool["in_use"] >= pool["max_size"]]
    state = f"all {most} in use" if using else f"all {most} open"
    number, pools = len(using or full), len(known.pools)
    where = f" in {number} of {pools} pools" if pools > 1 else ""
    return f"waits p95 {duration(p95)} with {state}{where}"


def _budget_spent(known: Known) -> str | None:
    p95 = known.p95("wait")
    if known.sum["borrows"] < ENOUGH or p95 <= _SHORT_WAIT or not known.has_spent_budget:
        return None
    said = f"waits p95 {duration(p95)} with all {known.sum['budget']} slots of the budget taken"
    if known.barely_worked:
        why = _held_and_worked(known)
        return f"{said}: raise the budget, or hold connections for a shorter time: {why}."
    return f"{said}: raise the budget if the server has room, or make queries faster."


def _held_idle(known: Known) -> str | None:
    waits = _waits(known)
    if waits is None or not known.barely_worked:
        return None
    by_request = any(pool["return_at"] == "request" for pool in known.pools)
    remedy = (
        "use return_at=transaction or without_connection() around slow calls"
        if by_request
        else "shorten transactions or use without_connection() around slow calls"
    )
    return f"{waits}: raise max_size, or {remedy}: {_held_and_worked(known)}."


def _too_small(known: Known) -> str | None:
    waits = _waits(known)
    if waits is None or known.barely_worked:
        return None
    why = f": {_held_and_worked(known)}" if known.sum["returns"] else ""
    return f"{waits}: raise max_size, or make queries faster{why}."


def _oversized(known: Known) -> str | None:
    server, most = known.server, known.most
    if server is None:
        return None
    others = max(0, server.total - known.sum["size"])
    if most + others <= server.allowed:
        return None
    return (
        f"{product(known)} = {most} of {server.allowed} allowed "
        f"(max_connections {server.max_connections}, {server.reserved} reserved), and others have "
        f"{others}: lower {'the budget' if known.sum['budget'] else 'max_size'}, or the number of "
        "processes, or raise max_connections."
    )


def _too_large(known: Known) -> str | None:
    most, server = known.most, known.server
    scarce = most > server.allowed / 2 if server is not None else most > _FEW_CONNECTIONS
    made = known.made
    # A pool can't have had more than it opened. If it has more, `made` counts only an interval.
    if known.sum["borrows"] < 10 * ENOUGH or not scarce or not known.sum["size"] <= made:
        return None
    if made > most / 4:
        return None
    of_allowed = f", of {server.allowed} allowed" if server is not None else ""
    return (
        f"{product(known)} = {most}{of_allowed}, but for {known.sum['borrows']} borrows "
        f"{made} connections were enough: lower max_size and leave the rest to others."
    )


def _many_connects(known: Known) -> str | None:
    borrows, made = known.sum["borrows"], known.made
    # Those that fill the pools once don't count.
    if borrows < ENOUGH or made - known.sum["max_size"] < _MANY_CONNECTS * borrows:
        return None
    said = (
        f"{made} connections were opened for {borrows} borrows, at "
        f"{duration(known.sum['connect']['total'] / made)} each"
    )
    if any(pool["pool_class"] == "null" for pool in known.pools):
        return f'{said}: class "null" keeps none, which is right only behind PgBouncer.'
    return (
        f"{said}: raise min_size ({known.pools[0]['min_size']} now), max_idle or max_lifetime, "
        "and find out what closes them."
    )


def _reclaimed(known: Known) -> str | None:
    reclaimed = known.sum["reclaimed"]
    if not reclaimed:
        return None
    return (
        f"{reclaimed} of {known.sum['returns']} connections returned had to be reclaimed because "
        "their threads ended without closing them: use returning_connections() in these threads; "
        "the log names them."
    )


def _dead(known: Known) -> str | None:
    dead = known.sum["dead"]
    if dead <= known.sum["max_size"] or dead < ENOUGH / 10:
        return None
    return (
        f"{dead} connections were found dead, more than the {known.sum['max_size']} that one "
        "restart of the server explains: does a firewall or a proxy drop idle ones? Set max_idle "
        "below its limit."
    )


def _pinned(known: Known) -> str | None:
    pinned, borrows = known.sum["pinned"], known.sum["borrows"]
    if borrows < ENOUGH or pinned < _MANY_PINNED * borrows:
        return None
    by = Counter(holder["pinned"] for holder in known.holders if holder["pinned"])
    now = ", ".join(f"{command} ({number})" for command, number in by.most_common(3))
    return (
        f"{pinned} of {borrows} borrows kept their connection beyond the transaction because their "
        f"session held state ({f'now: {now}' if now else '`--holders` shows what'}): use SET LOCAL "
        "and transaction-level locks, or OPTIONS for what every session needs."
    )


def _many_resets(known: Known) -> str | None:
    resets, returns = known.sum["resets"], known.sum["returns"]
    if returns < ENOUGH or resets < _MANY_RESETS * returns:
        return None
    return (
        f"{resets} resets for {returns} returns; each is a round trip, during which nobody can "
        "borrow the connection: use SET LOCAL in place of SET, and OPTIONS or configure for what "
        'every session needs. With reset="always" this is expected.'
    )


def _idle_in_transaction(known: Known) -> str | None:
    server = known.server
    longest = server.longest_idle_in_transaction if server is not None else None
    if server is None or longest is None or longest < _SHORT_IDLING:
        return None
    return (
        f"{server.idle_in_transaction} of {server.ours} connections are idle in a transaction, "
        f"the longest for {duration(longest)}: they hold locks and hold back VACUUM. `--holders` "
        "shows where; PostgreSQL's idle_in_transaction_session_timeout ends them."
    )


_RULES = (
    *(_paused, _connect_errors, _exhausted, _abandoned, _deadlines, _held_long, _budget_spent),
    *(
        _held_idle,
        _too_small,
        _oversized,
        _idle_in_transaction,
        _reclaimed,
        _dead,
        _many_connects,
        _pinned,
        _many_resets,
        _too_large,
    ),
)
RULES: dict[str, Callable[[Known], str | None]] = {
    rule.__name__.removeprefix("_").replace("_", "-"): rule for rule in _RULES
}
"""By their ids, most urgent first."""
