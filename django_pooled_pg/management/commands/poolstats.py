"""`manage.py poolstats`: prints what its options ask for.

Opens no pool, and no connection except the one for `--server`.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from time import monotonic, sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from ...monitoring import client, render, watch
from ...monitoring.advice import advise
from ...monitoring.cells import longest_held
from ...monitoring.report import ProcessReport
from ...monitoring.server import ServerSide, server_sides
from ...runtime_dir import RuntimeDirError
from ...wrapper import PooledDatabaseMixin
from ..arguments import check_alias, check_seconds

_FORMATS = ("table", "json", "prometheus")
# Options that exclude each other.
_APART = (
    ("watch", "interval"),
    ("watch", "json"),
    ("watch", "prometheus"),
    # Prometheus computes its own intervals, and its format has no room for the rest.
    ("interval", "prometheus"),
    ("holders", "prometheus"),
    ("server", "prometheus"),
    ("advise", "prometheus"),
)
_HOLDERS_FOR_ADVICE = 100


class Command(BaseCommand):
    help = "Show the connection pools of all live processes of this project."
    # Needs nothing that system checks verify, and an operator in a hurry is waiting.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--watch",
            nargs="?",
            type=float,
            const=2.0,
            metavar="SECONDS",
            help="refresh every SECONDS, with the figures of that interval (default: 2)",
        )
        parser.add_argument(
            "--interval",
            type=float,
            metavar="SECONDS",
            help="look twice, SECONDS apart, and show the figures of the time in between",
        )
        parser.add_argument(
            "--holders",
            nargs="?",
            type=int,
            const=10,
            metavar="N",
            help="also show who holds connections longest, and where that code is (default: 10)",
        )
        parser.add_argument(
            "--server", action="store_true", help="also show what the server says about them"
        )
        parser.add_argument("--advise", action="store_true", help="say what to change, and why")
        parser.add_argument("--format", choices=_FORMATS, help="default: table")
        parser.add_argument("--json", action="store_true", help="the same as --format json")
        parser.add_argument("--database", metavar="ALIAS", help="show this database only")
        parser.add_argument(
            "--timeout",
            type=float,
            default=1.0,
            metavar="SECONDS",
            help="how long to wait for the processes' answers (default: 1)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _check(options)
        look = _Look(options)
        try:
            if options["watch"] is not None:
                # Not self.stdout, which adds a line end to whatever is written.
                watch.watch(look.text, options.get("stdout") or sys.stdout, options["watch"])
                return
            if options["interval"] is not None:
                look.take()
                sleep(options["interval"])
            self.stdout.write(look.shown())
            self.stdout.flush()
        except RuntimeDirError as ex:
            raise CommandError(str(ex)) from ex
        except BrokenPipeError:
            # The reader has seen enough, like `head`. Without this, Python's flush at exit fails.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
        except KeyboardInterrupt:
            pass  # during the interval, or before watch() could catch it


def _check(options: dict[str, Any]) -> None:
    database = options["database"]
    if database is not None:
        check_alias(database)
    for name in ("timeout", "watch", "interval"):
        if options[name] is not None:
            check_seconds(name, options[name])
    if options["holders"] is not None and options["holders"] < 1:
        raise CommandError(f"--holders must be a positive number, not {options['holders']}.")
    if options["json"] and options["format"] not in (None, "json"):
        raise CommandError(f"--json and --format {options['format']} don't go together.")
    if options["json"] or options["format"] is None:
        options["format"] = "json" if options["json"] else "table"
    given = {name for name in options if options[name] not in (None, False)}
    given.add(options["format"])
    for one, other in _APART:
        if one in given and other in given:
            of_format = "" if other not in _FORMATS else "format "
            raise CommandError(f"--{one} and --{of_format}{other} don't go together.")
    if options["server"] and database is not None and not _is_ours(database):
        raise CommandError(f"--server: database {database!r} doesn't use this engine.")


def _is_ours(alias: str) -> bool:
    return isinstance(connections[alias], PooledDatabaseMixin)


class _Look:
    """What the options ask for, and what the last look found."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._database: str | None = options["database"]
        self._before: list[ProcessReport] | None = None
        self._seen_at = 0.0

    def take(self) -> tuple[list[ProcessReport], float | None]:
        """Ask the processes; return their figures, and over how many seconds they ran.

        The first time they run since each process started, which is `None`.
        """
        holders: int = self._options["holders"] or 0
        if self._options["advise"]:
            holders = max(holders, _HOLDERS_FOR_ADVICE)
        reports = client.collect(self._options["timeout"], holders)
        before, self._before = self._before, reports
        seen_at, self._seen_at = self._seen_at, monotonic()
        if before is None:
            return reports, None
        return watch.between(before, reports), self._seen_at - seen_at

    def shown(self) -> str:
        """Look, and return the result in the format that was asked for."""
        if self._options["format"] == "json":
            return self._json()
        if self._options["format"] == "prometheus":
            from ...monitoring.prometheus import exposition

            return exposition(self.take()[0], self._database)
        return self.text()

    def text(self) -> str:
        """Look, and return tables and sentences."""
        reports, seconds = self.take()
        period = f"of the last {seconds:.1f} s" if seconds is not None else render.SINCE_START
        blocks = [render.table(reports, self._database, period) or self._nothing()]
        if (number := self._options["holders"]) is not None:
            holders = longest_held(reports, number, self._database)
            blocks.append(render.holders_table(holders))
        sides = self._sides()
        blocks += map(render.server_text, sides)
        if self._options["advise"]:
            blocks.append(render.advice_text(self._advice(reports, sides)))
        return "\n\n".join(blocks)

    def _json(self) -> str:
        reports, seconds = self.take()
        shown: dict[str, Any] = {
            "interval_seconds": seconds,
            "processes": render.as_json(reports, self._database),
        }
        if (number := self._options["holders"]) is not None:
            shown["holders"] = longest_held(reports, number, self._database)
        sides = self._sides()
        if self._options["server"]:
            shown["server"] = [side.as_json() for side in sides]
        if self._options["advise"]:
            shown["advice"] = [asdict(each) for each in self._advice(reports, sides)]
        return json.dumps(shown, indent=2)

    def _sides(self) -> list[ServerSide]:
        if not self._options["server"]:
            return []
        aliases = [self._database] if self._database is not None else list(connections)
        return server_sides([alias for alias in aliases if _is_ours(alias)])

    def _advice(self, reports: Sequence[ProcessReport], sides: Sequence[ServerSide]) -> Any:
        return advise(reports, {side.alias: side for side in sides}, self._database)

    def _nothing(self) -> str:
        of = f" of database {self._database!r}" if self._database is not None else ""
        return f"No live process of this project has a connection pool{of}."
