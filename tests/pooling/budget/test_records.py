from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from django_pooled_pg.pooling.budget.records import Record, read_records
from django_pooled_pg.pooling.budget.slots import MEMBERS, SlotFile


def record(index: int, **values: int | float | str) -> Record:
    return Record(index=index, limit=5, min_size=1, **values)  # type: ignore[arg-type]


def test_what_is_told_is_read(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "budget")
    told = [
        record(0, held=3, busy=2, wanted=1, since=4.5, promised=1, given=9, process="gunicorn"),
        record(2, process="gunicorn " * 10),
    ]
    for each in told:
        file.lock(MEMBERS + each.index)
        file.write(each.pack(), each.place)
    first, second = read_records(file)
    assert asdict(first) == asdict(told[0])
    assert first.pid == os.getpid()
    assert (second.index, second.process) == (2, ("gunicorn " * 10)[:32].rstrip("\0"))


def test_who_has_no_lock_is_no_member(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "budget")
    file.write(record(0).pack(), 0)
    assert read_records(file) == []


def test_what_is_no_record_is_none(tmp_path: Path) -> None:
    file = SlotFile(tmp_path / "budget")
    file.lock(MEMBERS)
    file.write(b"x" * 1000, 0)
    assert read_records(file) == []
