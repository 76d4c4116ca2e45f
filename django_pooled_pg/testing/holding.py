"""Says why a connection would not go back at this moment; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..pooling.session.statements import CHANGES
from ..pooling.session.use import Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A connection that code holds: of which alias, borrowed where, and why it can't go back."""

    alias: str
    place: str
    why: str


def own_blocks(wrapper: Any, outer: int = 0) -> int:
    """Return the number of atomic blocks beyond the `outer` ones and those of a `TestCase`."""
    blocks = wrapper.atomic_blocks[outer:]
    return sum(not getattr(block, "_from_testcase", False) for block in blocks)


def why_held(wrapper: Any, use: Use, *, outer_blocks: int = 0, outer_cursors: int = 0) -> str:
    """Say what keeps the connection with `return_at="transaction"`; `""` if nothing does."""
    if own_blocks(wrapper, outer_blocks):
        return "a transaction"
    if len(use.open_cursors) > outer_cursors:
        return "an open cursor"
    if use.effect >= CHANGES:
        return f"session state ({use.reason or 'a statement'})"
    if use.handled or use.doubt:
        return "session state (psycopg's connection was used directly)"
    if wrapper._asked_for:
        return "connection.ensure_connection()"
    return ""
