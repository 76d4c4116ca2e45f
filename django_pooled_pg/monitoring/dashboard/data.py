"""Gathers what the dashboard shows. Knows no requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connections

from .. import client
from ..advice import Advice, advise
from ..report import ProcessReport
from ..server import ServerSide
from .servers import servers

_HOLDERS_OF_A_POOL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The pools at one moment (`time`: seconds since the epoch).

    `server` maps aliases to those server sides that are known; see `Servers`.
    """

    time: float
    reports: Sequence[ProcessReport]
    server: Mapping[str, ServerSide]
    advice: Sequence[Advice]


def look() -> View:
    """Ask all live processes, and the servers if it is time to.

    Raises `RuntimeDirError` if the processes can't be found.
    """
    _give_back()
    reports = client.collect(holders=_HOLDERS_OF_A_POOL)
    reported = {pool["alias"] for report in reports for pool in report.pools()}
    server = servers.sides(sorted(reported & set(connections)))
    return View(
        time=time.time(), reports=reports, server=server, advice=advise(reports, server=server)
    )


def _give_back() -> None:
    # What the request borrowed to find its user: otherwise it would appear among the holders, and
    # nobody should wait for it while processes are asked.
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
