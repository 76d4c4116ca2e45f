"""Owns what the dashboard shows: gathers it, and says it in JSON. Knows no requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connections

from ...pooling.statistics import BOUNDS
from .. import client
from ..advice import Advice, advise
from ..report import ProcessReport
from ..server import ServerSide
from .servers import servers

_HOLDERS_OF_A_POOL = 10
_HOLDERS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The pools at one moment (`time`: seconds since the epoch).

    `server` has, by alias, the sides that are known; see `Servers`.
    """

    time: float
    reports: Sequence[ProcessReport]
    server: Mapping[str, ServerSide]
    advice: Sequence[Advice]

    def holders(self) -> list[dict[str, Any]]:
        """Return the longest leases of all processes, each with its `pid` and `process`, too."""
        found = [
            {"process": report.snapshot["process"], **holder}
            for report in self.reports
            if report.snapshot is not None
            for holder in report.holders()
        ]
        found.sort(key=lambda holder: holder["held"], reverse=True)
        return found[:_HOLDERS_SHOWN]

    def as_json(self) -> dict[str, Any]:
        """Return it for the page's script. All times are in seconds."""
        return {
            "time": self.time,
            "bounds": BOUNDS,
            "processes": [_process(report) for report in self.reports],
            "holders": self.holders(),
            "server": [side.as_json() for side in self.server.values()],
            "advice": [asdict(advice) for advice in self.advice],
        }


def look() -> View:
    """Ask all live processes, and the servers if it is time to.

    Raises `RuntimeDirError` when the processes can't be found.
    """
    _give_back()
    reports = client.collect(holders=_HOLDERS_OF_A_POOL)
    server = servers.sides(sorted(_aliases(reports)))
    return View(
        time=time.time(), reports=reports, server=server, advice=advise(reports, server=server)
    )


def _give_back() -> None:
    # What the request borrowed to find its user: it would be shown among the holders, and
    # nobody is to wait for it while processes are asked.
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _aliases(reports: Sequence[ProcessReport]) -> set[str]:
    reported = {pool["alias"] for report in reports for pool in report.pools()}
    return reported & set(connections)


def _process(report: ProcessReport) -> dict[str, Any]:
    if report.snapshot is None:
        return {"pid": report.pid, "error": report.error}
    return {
        "pid": report.pid,
        "process": report.snapshot["process"],
        "started": report.snapshot.get("started"),
        "pools": report.snapshot["pools"],
    }
