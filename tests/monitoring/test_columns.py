from __future__ import annotations

import pytest

from django_pooled_pg.monitoring.columns import aligned, duration, milliseconds


def test_text_is_flush_left_and_the_rest_flush_right() -> None:
    assert aligned([("NAME", "N"), ("a", "100"), ("bcdef", "2")], 1) == (
        "NAME     N\n"  #
        "a      100\n"
        "bcdef    2"
    )


def test_a_groups_heading_begins_where_its_first_column_does() -> None:
    rows = [("NAME", "P50", "MAX", "P50"), ("a", "1000.0", "2.0", "3")]
    assert aligned(rows, 1, ["", "WAIT", "", "HELD"]) == (
        "         WAIT      HELD\n"  #
        "NAME     P50  MAX  P50\n"
        "a     1000.0  2.0    3"
    )


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "-"),
        (0.0, "0.000"),
        (0.000123, "0.123"),
        (0.0123, "12.3"),
        (0.0999, "99.9"),
        (2.5, "2500"),
    ],
)
def test_milliseconds(seconds: float | None, written: str) -> None:
    assert milliseconds(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "0.0 ms"),
        (0.0062, "6.2 ms"),
        (0.0851, "85 ms"),
        (0.9991, "999 ms"),
        (0.9996, "1.0 s"),
        (10, "10.0 s"),
        (130.4, "130 s"),
    ],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(seconds) == written
