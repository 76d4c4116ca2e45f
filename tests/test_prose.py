from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose import LONGEST, faults, main

# As long as a sentence may be.
LONG = " ".join(f"w{number}" for number in range(LONGEST))


def found(path: Path, text: str) -> list[tuple[int, str]]:
    path.write_text(text)
    return sorted(faults(path))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("It waits\nfor ever.", "'for ever': write indefinitely"),
        ("It ends,\nbe it a thread or a task.", "', be it': write whether, even if"),
        ("It waits\nfor the the end.", "'the' stands twice"),
        (f"It waits.\n{LONG} end.", f"{LONGEST + 1} words"),
    ],
)
def test_what_stumbles_is_found_with_its_line(text: str, what: str, tmp_path: Path) -> None:
    ((line, said),) = found(tmp_path / "page.md", f"# Waits\n\n{text}\n")
    assert line in (3, 4)
    assert said.startswith(what)


@pytest.mark.parametrize(
    "text",
    [
        "It is for everybody.",
        "```text\nit waits for ever\n```",
        "`for ever` is [a message](for ever.md).",
        f"| the | the |\n|---|---|\n| {LONG} | {LONG} |",
        f"- {LONG}\n- {LONG}\n\n{LONG}\n\n{LONG}",
    ],
)
def test_code_and_what_stands_by_itself_is_left_alone(text: str, tmp_path: Path) -> None:
    assert found(tmp_path / "page.md", text) == []


def test_comments_and_strings_of_modules_are_read(tmp_path: Path) -> None:
    lines = ['"""It waits', 'for ever."""', "very = 1  # very", f"# {LONG} end"]
    assert [line for line, _ in found(tmp_path / "module.py", "\n".join(lines))] == [2, 3]


def test_faults_are_printed_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_text("It is very good.")
    (tmp_path / "other.md").write_text("It is good.")
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path)])
    assert capsys.readouterr().out.startswith(f"{tmp_path}/page.md:1: 'very'")
    main([f"{tmp_path}/other.md"])
    assert capsys.readouterr().out == "1 files read well.\n"
