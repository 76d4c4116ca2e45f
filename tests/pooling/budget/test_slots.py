from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_pooled_pg.pooling.budget import slots
from django_pooled_pg.pooling.budget.slots import MEMBERS, SlotFile, free_bytes, slot_file
from tests.support.processes import run_script

OTHER = """
import os, sys
from pathlib import Path
from django_pooled_pg.pooling.budget.slots import SlotFile
file = SlotFile(Path({path!r}))
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SlotFile]:
    made = SlotFile(tmp_path / "budget")
    yield made
    made.forget_inherited()


def in_another_process(file: SlotFile, script: str) -> str:
    return run_script(OTHER.format(path=str(file.path)) + script, {})


def test_a_byte_is_locked_once(file: SlotFile) -> None:
    assert file.lock(3)
    assert not file.lock(3)
    assert in_another_process(file, "print(file.lock(3), file.lock(4), file.is_locked(3))") == (
        "False True True\n"
    )
    file.unlock(3)
    file.unlock(3)
    assert in_another_process(file, "print(file.lock(3))") == "True\n"


def test_bytes_that_are_free_are_found(file: SlotFile) -> None:
    file.lock(0)
    assert list(free_bytes(file, 0, 3)) == [1, 2]
    assert file.is_locked(0, 3)
    assert not file.is_locked(3, MEMBERS)


def test_a_process_that_is_gone_has_none(file: SlotFile) -> None:
    in_another_process(file, "assert file.lock(0)")
    assert file.lock(0)


def test_a_child_that_closes_it_drops_no_lock_of_its_parent(file: SlotFile) -> None:
    file.lock(0)
    pid = os.fork()
    if not pid:
        file.forget_inherited()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert in_another_process(file, "print(file.lock(0))") == "False\n"


def test_a_program_that_is_run_drops_no_lock(file: SlotFile) -> None:
    file.lock(0)
    run_script("", {})
    assert in_another_process(file, "print(file.lock(0))") == "False\n"


def test_a_file_that_was_deleted_is_made_again(file: SlotFile) -> None:
    file.lock(0)
    file.make_anew_if_gone()
    assert (file.generation, file.lock(0)) == (0, False)
    file.path.unlink()
    file.make_anew_if_gone()
    assert (file.generation, file.lock(0)) == (1, True)
    file.path.unlink()
    SlotFile(file.path).lock(5)
    file.make_anew_if_gone()
    assert file.generation == 2


def test_each_file_is_opened_once(tmp_path: Path) -> None:
    path = tmp_path / "budget"
    try:
        assert slot_file(path) is slot_file(path)
    finally:
        slots._files.pop(path).forget_inherited()


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "budget").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        SlotFile(tmp_path / "budget")
    assert not (tmp_path / "elsewhere").exists()
