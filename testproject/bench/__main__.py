"""The command line: `python -m testproject.bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from . import asynchronous, budgets, measures, overlaps, page, plot, results
from .abandoned import abandoned
from .contestants import EVERYBODY, PREWARMED, PREWARMED_TRANSACTION, of_tree
from .counting import instructions
from .figures import Case
from .plan import Bench
from .report import table
from .servers import Servers, version
from .sites import gunicorn
from .targets import Verdict, verdicts

MEASURES: dict[str, Callable[[Bench], Iterator[Case]]] = {
    measure.__name__: measure
    for measure in (
        measures.request,
        measures.borrow,
        instructions,
        measures.throughput,
        measures.slow,
        measures.first,
        gunicorn,
        abandoned,
        budgets.budget,
        overlaps.overlap,
    )
}
MEASURES["async"] = asynchronous.asynchronous


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    # So that everything that was started is stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    everybody = (
        *EVERYBODY,
        PREWARMED,
        PREWARMED_TRANSACTION,
        *budgets.CONTESTANTS,
        *asynchronous.CONTESTANTS,
    )
    labels = {each.key: each.label for each in everybody}
    for tree in options.tree:
        labels.update({each.key: each.label for each in of_tree(*tree)})
    cases = []
    with ExitStack() as stack:
        servers = Servers(os.environ.get("DATABASE_URL"), stack)
        bench = Bench(
            servers=servers,
            rounds=options.rounds,
            scale=options.scale,
            trees=tuple(options.tree),
            package=options.package,
            only=frozenset(options.only),
            say=_say,
        )
        facts = results.machine(version(servers.main))
        for name in options.measures or MEASURES:
            for case in MEASURES[name](bench):
                cases.append(case)
                print(table(case, labels), end="\n\n", flush=True)
    told = list(verdicts(cases))
    # If only some measures ran, most targets don't apply.
    shown = [each for each in told if each.met is not None or not options.measures]
    print("Targets:", *(f"  {each}" for each in shown), sep="\n")
    if options.output is not None:
        save(options.output, cases, told, labels, facts)
    if options.docs is not None:
        page.fill(options.docs, page.markdown(cases, told, labels, facts))
    return 0


def save(
    folder: Path,
    cases: Sequence[Case],
    told: Sequence[Verdict],
    labels: dict[str, str],
    facts: dict[str, object],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / results.JSON, results.as_json(cases, told, labels, facts))
    try:
        plot.draw(cases, labels, folder / results.SVG)
    except plot.NoMatplotlib:
        print("No picture is drawn: matplotlib isn't installed.", file=sys.stderr)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m testproject.bench",
        description="Compare connection pools for Django, on the embedded server or DATABASE_URL.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="measures:\n"
        + "\n".join(f"  {name:12} {measure.__doc__}" for name, measure in MEASURES.items())
        + "\n\ncontestants:\n"
        + "\n".join(f"  {each.key:18} {each.label}" for each in EVERYBODY),
    )
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help="measures to take; default: all"
    )
    parser.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies each turn's seconds")
    parser.add_argument("--only", type=_keys, default=[], help="contestants' keys, with commas")
    parser.add_argument("--output", type=Path, help="a folder for the JSON and the SVG")
    parser.add_argument("--docs", type=Path, help="a page whose figures are to be replaced")
    parser.add_argument(
        "--package",
        type=_folder,
        default="",
        metavar="FOLDER",
        help="measure the django_pooled_pg in that folder",
    )
    parser.add_argument(
        "--tree",
        type=_tree,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="also measure the django_pooled_pg in that folder",
    )
    options = parser.parse_args(argv)
    for name in options.measures:
        if name not in MEASURES:
            parser.error(f"no measure is called {name!r}; there are {', '.join(MEASURES)}")
    return options


def _keys(text: str) -> list[str]:
    return text.split(",")


def _tree(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{text!r} isn't NAME=FOLDER")
    return name, _folder(folder)


def _folder(text: str) -> str:
    # Children run in another folder.
    return os.path.abspath(text) if text else ""


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
