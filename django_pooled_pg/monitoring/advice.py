"""Owns what is advised on the figures of all pools: which rules apply; asks nobody for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .advice_rules import RULES, Known
from .figures import Pool, total
from .report import ProcessReport
from .server import ServerSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to change about one alias' pools: `rule` is its id, `text` has the figures, too."""

    alias: str
    rule: str
    text: str


def advise(
    reports: Sequence[ProcessReport],
    server: Mapping[str, ServerSide] | None = None,
    database: str | None = None,
) -> list[Advice]:
    """Return what the figures suggest to change, by alias, most urgent first; empty: nothing.

    `server` is by alias; without it, or where its server couldn't be asked, rules that need it
    say nothing. Rules about holders need reports that were collected with them. With `database`,
    about that alias only.
    """
    aliases = sorted({pool["alias"] for report in reports for pool in _pools(report)})
    return [
        Advice(alias=alias, rule=rule, text=text)
        for alias in aliases
        if database is None or alias == database
        for known in [_known(alias, reports, (server or {}).get(alias))]
        for rule, say in RULES.items()
        if (text := say(known)) is not None
    ]


def _pools(report: ProcessReport) -> list[Pool]:
    return report.snapshot["pools"] if report.snapshot is not None else []


def _known(alias: str, reports: Sequence[ProcessReport], server: ServerSide | None) -> Known:
    pools = [pool for report in reports for pool in _pools(report) if pool["alias"] == alias]
    return Known(
        pools=pools,
        sum=total(pools),
        holders=[
            {"pid": report.pid, **holder}
            for report in reports
            if report.snapshot is not None
            for holder in report.snapshot.get("holders", [])
            if holder["alias"] == alias
        ],
        server=server if server is not None and server.error is None else None,
    )
