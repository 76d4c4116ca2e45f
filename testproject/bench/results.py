"""Writes what a run leaves: its figures and verdicts, as JSON, with the versions that matter."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .figures import Case, Figure, Outcome, ratio, spread
from .targets import Verdict

JSON, SVG = "benchmark.json", "benchmark.svg"
PACKAGES = (
    "django",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    "django-pg-real-pool",
    "django-db-connection-pool",
    "django-db-geventpool",
    "gunicorn",
)


def machine(postgresql: str) -> dict[str, Any]:
    """Return what a reader needs to know of the machine, and nothing that tells whose it is."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "postgresql": postgresql,
        "packages": versions,
    }


def as_json(
    cases: Sequence[Case],
    found: Sequence[Verdict],
    labels: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "machine": facts,
        "contestants": dict(labels),
        "cases": [
            {
                "measure": case.measure,
                "name": case.name,
                "reference": case.reference,
                "note": case.note,
                "figures": [asdict(figure) for figure in case.figures],
                "outcomes": {
                    key: _outcome(case, key, outcome) for key, outcome in case.outcomes.items()
                },
            }
            for case in cases
        ],
        "targets": [{**asdict(verdict), "met": verdict.met} for verdict in found],
    }


def _outcome(case: Case, key: str, outcome: Outcome) -> dict[str, Any]:
    if outcome.error:
        return {"error": outcome.error}
    ratios = {
        figure.key: asdict(times)
        for figure in case.figures
        if figure.ratio and (times := ratio(case, figure.key, key, case.reference))
    }
    rounded = {name: [float(f"{v:.5g}") for v in values] for name, values in outcome.rounds.items()}
    medians = {name: asdict(spread(values)) for name, values in rounded.items()}
    return {"rounds": rounded, "medians": medians, "ratios": ratios}


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write JSON that people can read: a list of numbers takes one line."""
    text = json.dumps(found, indent=1)
    path.write_text(re.sub(r"\[[^\[\]{}\"]+\]", lambda m: " ".join(m[0].split()), text) + "\n")


def load(path: Path) -> tuple[list[Case], dict[str, str], dict[str, Any], list[Verdict]]:
    """Return what `as_json` was given."""
    found = json.loads(path.read_text())
    cases = [
        Case(
            case["measure"],
            case["name"],
            tuple(Figure(**figure) for figure in case["figures"]),
            case["reference"],
            {
                key: Outcome(outcome.get("rounds", {}), outcome.get("error", ""))
                for key, outcome in case["outcomes"].items()
            },
            case["note"],
        )
        for case in found["cases"]
    ]
    told = [
        Verdict(each["target"], each["figure"], each["comparison"], each["limit"])
        for each in found["targets"]
    ]
    return cases, found["contestants"], found["machine"], told
