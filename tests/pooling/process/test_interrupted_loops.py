"""No loop in the pools' code starts over unguarded by the `with` around it.

On Python 3.13 and 3.14 an interrupt may come when a loop starts over. If it does so after a
condition (`for ...: if ...`, `[... for ... if ...]`, `while`), the compiled `with` doesn't guard
that moment (python/cpython#130279): a lock stays locked forever. A loop in a function that is
called inside the `with` is safe.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from django_pooled_pg import pooling

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 13), (3, 14)), reason="compiled so by Python 3.13 and 3.14"
)

POOLING = Path(pooling.__file__).parent


def functions(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from functions(constant)


def loops_beside_their_with(code: CodeType) -> Iterator[int]:
    """Yield the lines of loops that start over where no `with` looks, and go on where one does."""
    instructions = {each.offset: each for each in dis.get_instructions(code)}
    entries = dis.Bytecode(code).exception_entries
    exits = {o for o, each in instructions.items() if each.opname == "WITH_EXCEPT_START"}

    def is_looked_after(offset: int) -> bool:
        targets = [each.target for each in entries if each.start <= offset < each.end]
        # The innermost: to PUSH_EXC_INFO, which comes just before, or to what `with` is around.
        return bool(targets) and (targets[-1] + 2 in exits or is_looked_after(targets[-1]))

    for offset, each in instructions.items():
        starts_over = each.opname == "JUMP_BACKWARD"
        if starts_over and is_looked_after(each.argval) and not is_looked_after(offset):
            yield each.line_number or 0


def test_no_loop_starts_over_beside_its_with() -> None:
    found = {
        f"{file.relative_to(POOLING)}:{line} in {function.co_qualname}"
        for file in POOLING.rglob("*.py")
        for function in functions(compile(file.read_text(), str(file), "exec"))
        for line in loops_beside_their_with(function)
    }
    assert found == set()


LOOPS = """
def beside(lock, found):
    with lock:
        return [each for each in found if each]

def looked_after(lock, found):
    with lock:
        return in_a_function(found)
"""


def test_such_loops_are_found() -> None:
    found = {
        function.co_name
        for function in functions(compile(LOOPS, "loops.py", "exec"))
        if list(loops_beside_their_with(function))
    }
    assert found == {"beside"}
