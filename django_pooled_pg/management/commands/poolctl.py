"""`manage.py poolctl`: passes an action to each process and prints what it did.

Opens no pool or connection.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...monitoring import client
from ...monitoring.control import ACTIONS
from ...runtime_dir import RuntimeDirError, describe, runtime_dir
from ..arguments import check_alias, check_seconds


class Command(BaseCommand):
    help = (
        "Control the connection pools of all live processes of this project: drain (replace all "
        "connections), check (drop idle ones whose server doesn't answer), resize, pause (make "
        "borrowers wait), resume."
    )
    # Needs nothing that system checks verify, and an operator in a hurry is waiting.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=tuple(ACTIONS))
        parser.add_argument("alias", metavar="ALIAS", help="act on the pools of this database")
        parser.add_argument("--pid", type=int, metavar="PID", help="act in this process only")
        parser.add_argument("--min-size", type=int, metavar="N", help="for resize")
        parser.add_argument("--max-size", type=int, metavar="N", help="for resize")
        parser.add_argument("--budget", type=int, metavar="N", help="for resize")
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
        parser.add_argument(
            "--timeout",
            type=float,
            default=5.0,
            metavar="SECONDS",
            # Longer than for poolstats: check and pause may take 2 s.
            help="how long to wait for the processes' answers (default: 5)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        request, pid, timeout = _request(options), options["pid"], options["timeout"]
        check_seconds("timeout", timeout)
        try:
            if not options["json"]:
                database, folder = describe(request["alias"]), runtime_dir()
                self.stdout.write(f"{options['action']} {database}, processes of {folder}")
                self.stdout.flush()  # before the work begins
            answers = client.ask(request, timeout, pid)
        except RuntimeDirError as ex:
            raise CommandError(str(ex)) from ex
        told = [_told(answer) for answer in answers]
        if options["json"]:
            self.stdout.write(json.dumps(told, indent=2))
        else:
            for line in _lines(told):
                self.stdout.write(line)
        self._fail_unless_done(told, request["alias"], pid)

    def _fail_unless_done(self, told: list[dict[str, Any]], alias: str, pid: int | None) -> None:
        failed = sum(
            "error" in process or any("error" in pool for pool in process["pools"])
            for process in told
        )
        if failed:
            raise CommandError(f"{failed} of {len(told)} processes failed or did not answer.")
        if not any(process["pools"] for process in told):
            process = "process" if pid is None else f"process {pid}"
            raise CommandError(
                f"No live {process} of this deployment has a connection pool of database "
                f"{describe(alias)}. Looked in {runtime_dir()}."
            )


def _request(options: dict[str, Any]) -> dict[str, Any]:
    action, alias = options["action"], options["alias"]
    check_alias(alias)
    names = ("min_size", "max_size", "budget")
    sizes = {name: options[name] for name in names if options[name] is not None}
    if action == "resize" and not sizes:
        raise CommandError("resize needs --min-size, --max-size or --budget.")
    if action != "resize" and sizes:
        raise CommandError(f"--min-size, --max-size and --budget are for resize, not for {action}.")
    return {"request": "control", "action": action, "alias": alias, **sizes}


def _told(answer: client.Answer) -> dict[str, Any]:
    """Return one process's answer, ready for JSON; an invalid one becomes an error."""
    if answer.result is None:
        return {"pid": answer.pid, "error": answer.error}
    process, done = answer.result.get("process"), answer.result.get("done")
    if not isinstance(process, str) or not isinstance(done, list) or not all(map(_is_pool, done)):
        return {"pid": answer.pid, "error": "invalid answer: not what was done to its pools"}
    return {"pid": answer.pid, "process": process, "pools": done}


def _is_pool(pool: object) -> bool:
    return (
        isinstance(pool, dict)
        and isinstance(pool.get("name"), str)
        and isinstance(pool.get("error", pool.get("said")), str)
    )


def _lines(told: list[dict[str, Any]]) -> list[str]:
    lines = []
    for process in told:
        if "error" in process:
            lines.append(f"{process['pid']}  error: {process['error']}")
            continue
        label = f"{process['pid']} {process['process']}"
        for pool in process["pools"]:
            said = f"error: {pool['error']}" if "error" in pool else pool["said"]
            lines.append(f"{label}  {pool['name']}: {said}")
        if not process["pools"]:
            lines.append(f"{label}  has no such pool")
    return lines
