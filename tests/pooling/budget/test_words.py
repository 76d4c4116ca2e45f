from __future__ import annotations

from django_pooled_pg.pooling.budget.records import Record
from django_pooled_pg.pooling.budget.words import holders_said


def member(pid: int, held: int, wanted: int = 0, process: str = "gunicorn") -> Record:
    record = Record(index=pid, pid=pid, limit=20, min_size=1, held=held, wanted=wanted)
    record.process = process
    return record


def test_who_has_most_comes_first() -> None:
    said = holders_said(
        "budget 'shop'", [member(1, 2), member(2, 18, 3), member(3, 0, 1, "celery")]
    )
    assert said == (
        "Of the 20 connections of the budget 'shop', gunicorn (2) has 18, gunicorn (1) has 2; "
        "2 processes want more."
    )


def test_of_many_it_names_some() -> None:
    said = holders_said("budget", [member(pid, 1) for pid in range(1, 13)])
    assert said.count(" has 1") == 8
    assert "gunicorn (8) has 1, and 4 more have some; 0" in said


def test_of_nobody_there_is_little_to_say() -> None:
    assert holders_said("budget", []) == ""
    assert "nobody has one" in holders_said("budget", [member(1, 0)])
