from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.parser import text_string_to_metric_families

from django_pooled_pg.monitoring.prometheus import METRICS, PooledPgCollector, exposition
from django_pooled_pg.pooling.counters import BOUNDS
from django_pooled_pg.pooling.statistics import GAUGES, PoolStatistics
from tests.conftest import MakeWrapper
from tests.monitoring.made_up import buckets, pool, report, silent
from tests.monitoring.members import member
from tests.support.processes import ROOT, environment

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

BUSY = pool(
    size=6,
    in_use=3,
    idle=2,
    waiting=4,
    paused=True,
    borrows=13,
    returns=10,
    wait_total=0.25,
    wait_buckets=buckets(*[0.0] * 11, 0.1, 0.15),
    held_total=73.05,
    held_buckets=buckets(*[0.005] * 8, 3.01, 70.0),
    worked_total=1.5,
    exhausted=5,
    abandoned_waiting=14,
    abandoned_working=15,
    deadlines=16,
    reclaimed=6,
    pinned=7,
    dead=8,
    resets=9,
    connects=12,
    connect_errors=2,
    connect_total=0.0625,
    connect_buckets=buckets(*[0.00625] * 10),
)

GUNICORN = {("process", "gunicorn")}

DASHBOARD = (ROOT / "docs/grafana.json").read_text()
PAGE = (ROOT / "docs/exporters.md").read_text()


def series(families: Iterable[Metric]) -> Series:
    """All samples; fails where two are of one series, as Prometheus does."""
    found: Series = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def parsed(text: str) -> Series:
    return series(text_string_to_metric_families(text))


def by_name(found: Series) -> dict[str, float]:
    """The values of series that are the only one of their name, but for `state` and `le`."""
    values = {}
    for (name, labels), value in found.items():
        more = [f"{{{k}={v}}}" for k, v in sorted(labels) if k in ("state", "le")]
        values["".join([name, *more])] = value
    assert len(values) == len(found)
    return values


def test_figures_of_a_pool() -> None:
    values = by_name(parsed(exposition([report(12, BUSY)])))
    assert {k: v for k, v in values.items() if not re.search("_(bucket|sum|count)", k)} == {
        "pooled_pg_process_up": 1,
        "pooled_pg_connections{state=idle}": 2,
        "pooled_pg_connections{state=in_use}": 3,
        "pooled_pg_connections_open": 6,
        "pooled_pg_connections_max": 10,
        "pooled_pg_connections_min": 1,
        "pooled_pg_waiting": 4,
        "pooled_pg_budget": 0,
        "pooled_pg_slots": 0,
        "pooled_pg_slots_wanted": 0,
        "pooled_pg_slots_given_total": 0,
        "pooled_pg_paused": 1,
        "pooled_pg_timeout_seconds": 10,
        "pooled_pg_borrows_total": 13,
        "pooled_pg_exhausted_total": 5,
        "pooled_pg_abandoned_waiting_total": 14,
        "pooled_pg_abandoned_working_total": 15,
        "pooled_pg_deadlines_total": 16,
        "pooled_pg_reclaimed_total": 6,
        "pooled_pg_pinned_total": 7,
        "pooled_pg_dead_total": 8,
        "pooled_pg_resets_total": 9,
        "pooled_pg_connects_total": 12,
        "pooled_pg_connect_errors_total": 2,
        "pooled_pg_worked_seconds_total": 1.5,
    }


def test_histograms_are_cumulative() -> None:
    values = by_name(parsed(exposition([report(12, BUSY)])))
    held = {k: v for k, v in values.items() if k.startswith("pooled_pg_held_seconds")}
    bounds = [f"pooled_pg_held_seconds_bucket{{le={bound}}}" for bound in (*BOUNDS, "+Inf")]
    assert held == {
        **dict(zip(bounds, [0] * 5 + [8] * 9 + [9] * 4 + [10], strict=True)),
        "pooled_pg_held_seconds_sum": 73.05,
        "pooled_pg_held_seconds_count": 10,
    }
    assert values["pooled_pg_wait_seconds_bucket{le=0.0001}"] == 11
    assert values["pooled_pg_wait_seconds_count"] == 13
    assert values["pooled_pg_connect_seconds_sum"] == 0.0625


def test_labels_tell_processes_and_pools_apart() -> None:
    found = parsed(
        exposition([report(12, pool(size=1), pool("a", name="b", size=2)), report(14, pool())])
    )
    assert {labels: value for (name, labels), value in found.items() if name.endswith("_open")} == {
        frozenset({("alias", "default"), ("pool", "default"), *GUNICORN, ("pid", "12")}): 1,
        frozenset({("alias", "a"), ("pool", "b"), *GUNICORN, ("pid", "12")}): 2,
        frozenset({("alias", "default"), ("pool", "default"), *GUNICORN, ("pid", "14")}): 0,
    }


def test_pools_of_one_name_are_one_series() -> None:
    values = by_name(parsed(exposition([report(12, BUSY, BUSY)])))
    assert values["pooled_pg_connections_open"] == 12
    assert values["pooled_pg_held_seconds_bucket{le=+Inf}"] == 20


def test_names_are_escaped() -> None:
    name = 'a"b\\c\nd'
    found = parsed(exposition([report(12, pool(name=name), process=name)]))
    labels = dict(next(labels for (name, labels) in found if name == "pooled_pg_paused"))
    assert (labels["pool"], labels["process"]) == (name, name)


def test_a_silent_process_is_down_and_nothing_else() -> None:
    found = parsed(exposition([report(12, BUSY), silent(13)]))
    assert [
        (dict(labels), value) for (name, labels), value in found.items() if name[-2:] == "up"
    ] == [
        ({"pid": "12"}, 1),
        ({"pid": "13"}, 0),
    ]
    assert sum(("pid", "13") in labels for _, labels in found) == 1


def test_only_one_database() -> None:
    found = parsed(exposition([report(12, pool("a"), pool("b")), silent()], "b"))
    assert {value for _, labels in found for key, value in labels if key == "alias"} == {"b"}


def test_nothing_to_report_names_the_metrics_all_the_same() -> None:
    assert parsed(exposition([])) == {}
    assert exposition([]).count("# TYPE") == len(METRICS)


def test_every_figure_is_exported() -> None:
    exported = {name for metric in METRICS for name in metric.fields}
    left_out = {
        *("alias", "name"),  # labels
        *("pool_class", "return_at"),  # settings that are no numbers
        "returns",  # borrows less connections in use
    }
    assert {f.name for f in fields(PoolStatistics)} - exported == left_out


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_kinds_follow_the_conventions(metric: Any) -> None:
    assert metric.kind in ("gauge", "counter", "histogram")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_seconds") or metric.kind != "histogram"
    assert metric.kind != "gauge" or {*metric.fields} <= {*GAUGES, "paused"}


def test_the_collector_exports_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [report(12, BUSY, pool("other", name='"\n\\')), silent(13)]
    monkeypatch.setattr("django_pooled_pg.monitoring.client.collect", lambda timeout: reports)
    registry = CollectorRegistry()
    registry.register(PooledPgCollector())
    text = generate_latest(registry).decode()
    assert parsed(text) == parsed(exposition(reports))
    names = re.compile("^# (HELP|TYPE) .*", re.MULTILINE)
    assert [line[0] for line in names.finditer(text)] == [
        line[0] for line in names.finditer(exposition(reports))
    ]
    assert openmetrics_text(registry).endswith(b"# EOF\n")


def test_any_process_answers_for_all(folder: Path) -> None:
    registry = CollectorRegistry()
    registry.register(PooledPgCollector())
    with member(folder) as one, member(folder) as other:
        found = series(registry.collect())
    pids = {str(one.pid), str(other.pid)}
    assert {(dict(labels)["pid"]) for name, labels in found if name == "pooled_pg_paused"} == pids
    assert {value for (name, _), value in found.items() if name == "pooled_pg_process_up"} == {1.0}


def test_registering_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_pooled_pg.monitoring.client.collect", None)
    registry = CollectorRegistry()
    registry.register(PooledPgCollector())
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(PooledPgCollector())


def test_a_bad_runtime_folder_does_not_take_other_metrics_away(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(0o777)
    registry = CollectorRegistry()
    registry.register(PooledPgCollector())
    assert series(registry.collect()) == {}
    (logged,) = [r for r in caplog.records if r.name == "django_pooled_pg.monitoring.prometheus"]
    assert str(folder) in logged.getMessage()


def test_borrows_are_counted(running: Path, make_wrapper: MakeWrapper) -> None:
    wrapper = make_wrapper()
    before = collected(wrapper.alias)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.02)")
        held = collected(wrapper.alias)
    wrapper.close()
    after = collected(wrapper.alias)
    assert before == {}
    assert held["pooled_pg_connections{state=in_use}"] == 1
    assert (held["pooled_pg_borrows_total"], held["pooled_pg_held_seconds_count"]) == (1, 0)
    assert after["pooled_pg_held_seconds_count"] == after["pooled_pg_wait_seconds_count"] == 1
    assert after["pooled_pg_held_seconds_bucket{le=0.01}"] == 0
    assert after["pooled_pg_held_seconds_sum"] >= after["pooled_pg_worked_seconds_total"] >= 0.02
    assert after["pooled_pg_connect_seconds_count"] == after["pooled_pg_connects_total"] >= 1


def collected(alias: str) -> dict[str, float]:
    """What is told of this alias' pool."""
    found = series(PooledPgCollector().collect())
    return by_name({k: v for k, v in found.items() if ("alias", alias) in k[1]})


def test_the_text_needs_no_library() -> None:
    script = """
import sys
sys.modules["prometheus_client"] = None  # as if it weren't installed
from django_pooled_pg.monitoring.prometheus import exposition
assert "pooled_pg_waiting" in exposition([])
assert "django.http" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=30)


# prometheus_client decides when it is imported whether it is in multiprocess mode.
MULTIPROCESS = """
import json, sys, warnings
warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # prometheus_client's own
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from django_pooled_pg.monitoring.prometheus import PooledPgCollector
Counter("of_the_site", "...").inc()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
registry.register(PooledPgCollector())
ready()
print(json.dumps(generate_latest(registry).decode()), flush=True)
"""


def test_in_multiprocess_mode(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", os.fspath(tmp_path))
    with member(folder, MULTIPROCESS) as one, member(folder, MULTIPROCESS) as other:
        out, err = other.communicate("\n", timeout=20)
        assert err == ""
        found = parsed(json.loads(out))
        pids = {str(one.pid), str(other.pid)}
    assert found["of_the_site_total", frozenset()] == 2
    assert {dict(labels)["pid"] for name, labels in found if name == "pooled_pg_paused"} == pids


def test_the_page_has_all_metrics_and_no_other() -> None:
    rows = re.findall(r"^\| `(pooled_pg_\w+)` \| (\w+) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert rows == [(metric.name, metric.kind, metric.help) for metric in METRICS]


def test_the_dashboard_asks_the_data_source_that_is_chosen() -> None:
    dashboard = json.loads(DASHBOARD)
    variables = dashboard["templating"]["list"]
    assert {v["name"]: v["type"] for v in variables} == {
        "DS_PROMETHEUS": "datasource",
        "alias": "query",
        "instance": "query",
    }
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    asked = [*dashboard["panels"], *targets, *(v for v in variables if v["type"] == "query")]
    assert {each["datasource"]["uid"] for each in asked} == {"${DS_PROMETHEUS}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_dashboard_names_exported_metrics_only() -> None:
    exported = {name for name, _ in parsed(exposition([report(12, BUSY)]))}
    named = set(re.findall(r"pooled_pg_\w+", DASHBOARD))
    assert named
    assert named <= exported
