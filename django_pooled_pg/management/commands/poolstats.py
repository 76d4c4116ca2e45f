"""Owns `manage.py poolstats`: options in, a table or JSON out. Opens no pool or connection."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...monitoring import client, render
from ...monitoring.runtime_dir import RuntimeDirError


class Command(BaseCommand):
    help = "Show the connection pools of all live processes of this project."
    # Nothing here depends on what they check, and an operator in a hurry is waiting.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print raw figures as JSON")
        parser.add_argument("--database", metavar="ALIAS", help="show this database only")
        parser.add_argument(
            "--timeout",
            type=float,
            default=1.0,
            metavar="SECONDS",
            help="how long to wait for the processes' answers (default: 1)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        database, timeout = options["database"], options["timeout"]
        if database is not None and database not in settings.DATABASES:
            known = ", ".join(sorted(settings.DATABASES))
            raise CommandError(f"There is no database {database!r} in DATABASES, only: {known}.")
        if not 0 < timeout < math.inf:
            raise CommandError(f"--timeout must be a positive number of seconds, not {timeout:g}.")
        try:
            reports = client.collect(timeout)
        except RuntimeDirError as ex:
            raise CommandError(str(ex)) from ex
        if options["json"]:
            self.stdout.write(json.dumps(render.as_json(reports, database), indent=2))
        elif not reports:
            self.stdout.write("No live process of this project has a connection pool.")
        else:
            shown = render.table(reports, database)
            self.stdout.write(shown or self._nothing_of(database))

    def _nothing_of(self, database: str | None) -> str:
        of = f" of database {database!r}" if database is not None else ""
        return f"No live process of this project has a connection pool{of}."
