"""Tests testproject/bench: short runs of the program, and the verdicts on made-up figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from testproject.bench import page, plot, report, results
from testproject.bench.contestants import DJANGO, OURS, OURS_TRANSACTION, PERSISTENT
from testproject.bench.figures import Case, Figure, Outcome, ratio
from testproject.bench.instructions import Counter
from testproject.bench.plan import ONE_QUERY, THREADS
from testproject.bench.servers import neutral
from testproject.bench.targets import Verdict, verdicts
from testproject.embedded import database_url
from tests.support.processes import ROOT

LABELS = {each.key: each.label for each in (PERSISTENT, DJANGO, OURS, OURS_TRANSACTION)}
FACTS = {"cpus": 2, "architecture": "x", "python": "3", "postgresql": "18.1", "packages": {}}


def run(folder: Path, only: str, measures: list[str], **env: str) -> tuple[str, dict[str, Any]]:
    command = [sys.executable, "-m", "testproject.bench", *measures, f"--output={folder}"]
    command += [f"--only={only}", "--rounds=1", "--scale=0.07"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout, json.loads((folder / results.JSON).read_text())


@pytest.fixture(scope="module")
def url() -> str:
    """A server that runs already: the start of one takes longer than such short measures."""
    return database_url("postgres")


def test_each_measure_has_figures_of_each_contestant(url: str, tmp_path: Path) -> None:
    measures = ["request", "borrow", "slow", "first"]
    out, told = run(tmp_path, "django,ours", measures, DATABASE_URL=url)
    taken = [case["measure"] for case in told["cases"]]
    assert taken == ["request", "request", *measures]
    for case in told["cases"]:
        assert set(case["outcomes"]) == {"django", "ours"}
        for outcome in case["outcomes"].values():
            assert_measured(outcome)
    assert LABELS["ours"] in out
    assert "Targets:" in out
    assert told["machine"]["packages"]["django"]


def test_threads_on_each_number_of_connections(url: str, tmp_path: Path) -> None:
    _, told = run(tmp_path, "ours", ["throughput"], DATABASE_URL=url)
    assert len(told["cases"]) == 6
    for case in told["cases"]:
        assert_measured(case["outcomes"]["ours"])


def test_who_does_not_run_here_is_told(url: str, tmp_path: Path) -> None:
    """A rival may not be installed, or not run with this Django."""
    out, told = run(tmp_path, "pg_real_pool", ["borrow"], DATABASE_URL=url)
    (case,) = told["cases"]
    outcome = case["outcomes"]["pg_real_pool"]
    assert outcome.get("error") or outcome["rounds"]
    assert "django-pg-real-pool" in out


def assert_measured(outcome: dict[str, Any]) -> None:
    assert "error" not in outcome, outcome
    # Not each is over 0: on a busy machine nothing may be ready in the time of so short a run.
    figures = [figure for (figure,) in outcome["rounds"].values()]
    assert all(figure >= 0 for figure in figures), outcome
    assert any(figures), outcome


def test_the_site_has_figures_or_a_reason(tmp_path: Path) -> None:
    _, told = run(tmp_path, "ours", ["gunicorn"])
    assert len(told["cases"]) == 3
    assert any(case["outcomes"] for case in told["cases"])
    for case in told["cases"]:
        if not case["note"]:
            assert_measured(case["outcomes"]["ours"])


def test_clients_that_leave(url: str, tmp_path: Path) -> None:
    _, told = run(tmp_path, "django,ours", ["abandoned"], DATABASE_URL=url)
    (case,) = told["cases"]
    for outcome in case["outcomes"].values():
        assert_measured(outcome)


def test_async_views(url: str, tmp_path: Path) -> None:
    _, told = run(tmp_path, "ours_aio,bare_async", ["async"], DATABASE_URL=url)
    assert len(told["cases"]) == 6
    for case in told["cases"]:
        for outcome in case["outcomes"].values():
            assert_measured(outcome)


def test_an_unknown_measure_is_refused() -> None:
    command = [sys.executable, "-m", "testproject.bench", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "throughput" in done.stderr


# Made-up figures


def case(measure: str, name: str, **rounds: dict[str, list[float]]) -> Case:
    figures = (Figure("cpu_us", "CPU us", ratio=True), Figure("rate", "requests/s", ratio=True))
    outcomes = {key: Outcome(dict(values)) for key, values in rounds.items()}
    return Case(measure, name, figures, PERSISTENT.key, outcomes)


def request(ours: list[float]) -> Case:
    return case("request", ONE_QUERY, persistent={"cpu_us": [100, 200, 100]}, ours={"cpu_us": ours})


def verdict(cases: list[Case], *words: str) -> Verdict:
    (found,) = (
        each
        for each in verdicts(cases)
        if all(word in each.target for word in words) and "transaction" not in each.target
    )
    return found


def test_a_ratio_is_the_median_of_each_rounds() -> None:
    found = ratio(request([110, 220, 50]), "cpu_us", "ours", "persistent")
    assert found is not None
    assert found.median == pytest.approx(1.1)


def test_who_failed_has_no_ratio() -> None:
    failed = request([110, 220, 50])
    failed.outcomes["ours"].error = "no"
    assert ratio(failed, "cpu_us", "ours", "persistent") is None


@pytest.mark.parametrize(("ours", "met"), [([90, 190, 120], True), ([106, 212, 90], False)])
def test_a_verdict_comes_from_the_figures(ours: list[float], met: bool) -> None:
    found = verdict([request(ours)], "one small request, CPU time", "CONN_MAX_AGE")
    assert found.met is met
    assert str(found).startswith("met" if met else "NOT MET")


def test_more_is_better_where_it_is() -> None:
    few = case("throughput", THREADS, django={"rate": [100.0]}, ours={"rate": [119.0]})
    assert verdict([few], "throughput").met is False
    many = case("throughput", THREADS, django={"rate": [100.0]}, ours={"rate": [121.0]})
    assert verdict([many], "throughput").met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdict([], "prewarmed")
    assert found.met is None
    assert str(found).startswith("not measured")


def test_json_can_be_read_again(tmp_path: Path) -> None:
    cases = [request([110, 220, 50])]
    told = list(verdicts(cases))
    results.write(tmp_path / "a.json", results.as_json(cases, told, LABELS, FACTS))
    assert results.load(tmp_path / "a.json") == (cases, LABELS, FACTS, told)


def test_an_error_stands_in_the_tables() -> None:
    failed = request([110, 220, 50])
    failed.outcomes["ours"] = Outcome(error="a|b")
    assert "doesn't run here: a|b" in report.table(failed, LABELS)
    assert r"doesn't run here: a\|b" in page.markdown([failed], [], LABELS, FACTS)


def test_figures_go_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.START}\nold\n{page.END}\nafter\n")
    page.fill(path, "new")
    assert path.read_text() == f"before\n{page.START}\nnew\n{page.END}\nafter\n"
    path.write_text("no marks")
    with pytest.raises(ValueError, match="marked"):
        page.fill(path, "new")


def test_the_documentation_has_a_place_for_figures(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / "docs/benchmark.md").read_text())
    page.fill(copy, "new")


def test_the_picture_is_an_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / results.SVG
    plot.draw([request([110, 220, 50])], LABELS, path)
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_an_error_tells_nothing_private() -> None:
    address = {"HOST": "db.internal", "USER": "alice", "PASSWORD": "secret", "NAME": "books"}
    text = neutral("no route to db.internal for\n alice with secret in books", address)
    assert text == "no route to ... for ... with ... in ..."


def test_the_kernel_counts_or_says_that_it_cannot() -> None:
    before = Counter().read()
    assert before is None or before > 0
