"""Applies the rules of advice to the figures of all pools; collects no figures itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings

from .advice_known import Known
from .advice_rules import RULES
from .figures import total
from .report import ProcessReport
from .server import ServerSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to change about one alias's pools: `rule` is the id, `text` includes the figures."""

    alias: str
    rule: str
    text: str


def advise(
    reports: Sequence[ProcessReport],
    server: Mapping[str, ServerSide] | None = None,
    database: str | None = None,
) -> list[Advice]:
    """Return what the figures suggest changing, by alias, most urgent first; empty: nothing.

    `server` is by alias. Without it, or if a server couldn't be asked, rules that need it say
    nothing. Rules about holders need reports that include holders. With `database`, the advice is
    about that alias only.
    """
    aliases = sorted({pool["alias"] for report in reports for pool in report.pools(database)})
    return [
        Advice(alias=alias, rule=rule, text=text)
        for alias in aliases
        for known in [_known(alias, reports, (server or {}).get(alias))]
        for rule, say in RULES.items()
        if (text := say(known)) is not None
    ]


def _known(alias: str, reports: Sequence[ProcessReport], server: ServerSide | None) -> Known:
    pools = [pool for report in reports for pool in report.pools(alias)]
    return Known(
        pools=pools,
        sum=total(pools),
        holders=[holder for report in reports for holder in report.holders(alias)],
        server=server if server is not None and server.error is None else None,
        # By the class's name: a site may use a subclass of its own.
        cancels_abandoned=any(
            path.endswith("CancelAbandonedMiddleware") for path in settings.MIDDLEWARE
        ),
    )
