"""Django's own tests with our engine on both aliases.

    python -m tests.conformance.django_suite                   a choice, in both modes
    python -m tests.conformance.django_suite --all             all of them
    python -m tests.conformance.django_suite --postgis         those of GeoDjango
    python -m tests.conformance.django_suite backends servers.tests.LiveServerPort

The exit code is 0 if none failed that Django's own engine without a pool passes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django

from testproject.embedded import database_url
from tests.conformance.django_suite import server
from tests.conformance.django_suite.choice import CHOICE, all_apps
from tests.conformance.django_suite.comparison import Run, examine
from tests.conformance.django_suite.outcomes import Outcomes
from tests.conformance.django_suite.running import RunFailed, Suite
from tests.conformance.django_suite.source import packages, source
from tests.conformance.django_suite.verdict import Verdict, known_in, read_known
from tests.support import postgis
from tests.support.processes import ROOT

SETTINGS = "tests.conformance.django_suite.settings"
KNOWN = Path(__file__).with_name("known.toml")
MODES: tuple[server.ReturnAt, ...] = ("request", "transaction")


def main() -> int:
    options = arguments()
    # So that what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tests = source(options.cache)
    work = options.cache / "runs" / django.__version__
    work.mkdir(parents=True, exist_ok=True)
    needed = packages(options.cache, tests, all_of_them=options.all)
    suite = Suite(
        command=[
            "runtests.py",
            f"--settings={SETTINGS}",
            "--noinput",
            f"--parallel={options.parallel}",
        ],
        folder=tests / "tests",
        path=[ROOT, needed],
        work=work,
    )
    if options.postgis:
        with postgis.server() as url:
            if url is None:
                print(postgis.MISSING)
                return 0
            return examine_modes(suite, url, ["gis_tests"], options.return_at, server.POSTGIS)
    url = database_url("postgres")
    labels = options.labels or (all_apps(tests) if options.all else CHOICE)
    if unknown := [each for each in labels if not (tests / "tests" / each.split(".")[0]).is_dir()]:
        sys.exit(f"Django {django.__version__} has no tests named {', '.join(unknown)}.")
    others = [each for each in labels if each.split(".")[0] != "postgres_tests"]
    if others != labels and (missing := server.missing_extensions(url)):
        print(f"Without postgres_tests: this server has no {', '.join(missing)}.")
        if not others:
            return 1
        labels = others
    return examine_modes(suite, url, labels, options.return_at)


def examine_modes(
    suite: Suite,
    url: str,
    labels: list[str],
    return_at: str,
    engines: server.Engines = server.PLAIN,
) -> int:
    """Run `labels` in each mode and report; return the exit code."""
    known = known_in(django.__version__, read_known(KNOWN))
    passed = failed = skipped = 0
    for mode in MODES if return_at == "both" else (return_at,):
        start = time.monotonic()
        try:
            verdict = examine(
                runner(suite, mode, server.ours(url, mode, engines)),
                runner(suite, mode, server.stock(url, engines)),
                labels,
                known,
            )
        except RunFailed as error:
            print(f"return_at={mode}: {error}")
            failed += 1
            continue
        report(verdict, mode, time.monotonic() - start)
        passed += verdict.passed
        failed += len(verdict.errors)
        skipped += verdict.skipped + len(verdict.excused)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.django_suite", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("labels", nargs="*", metavar="APPS", help="as runtests.py takes them")
    parser.add_argument("--all", action="store_true", help="all of Django's tests")
    parser.add_argument("--postgis", action="store_true", help="Django's gis_tests")
    parser.add_argument("--return-at", choices=[*MODES, "both"], default="both")
    parser.add_argument("--parallel", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument(
        "--cache",
        type=lambda text: Path(text).absolute(),
        default=Path(sys.prefix, "django-suite"),
        help="where Django's source goes, and logs (default: %(default)s)",
    )
    return parser.parse_args()


def runner(suite: Suite, mode: str, databases: dict[str, Any]) -> Run:
    def run(name: str, labels: Sequence[str]) -> Outcomes:
        return suite.run(f"{mode}-{name}", databases, labels)

    return run


def report(verdict: Verdict, mode: str, seconds: float) -> None:
    for test, why in verdict.excused.items():
        print(f"  {test}: {why}")
    for test, why in verdict.errors.items():
        print(f"FAILED {test}\n{why.rstrip()}\n")
    print(
        f"Django {django.__version__}, return_at={mode}, {seconds:.0f} s: {verdict.passed} passed, "
        f"{len(verdict.errors)} failed, {len(verdict.excused)} fail as listed or with Django's own "
        f"engine, too, {verdict.skipped} skipped",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
