"""Works out what would be borrowed if a test's own transaction weren't around the code.

That transaction holds one connection from start to finish, so nothing is really borrowed or given
back inside it. But code shows what it needs: a statement would borrow; closing the last cursor
would give back, unless the code's own atomic block, or what it left in the session, keeps the
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..places import place_of_caller
from ..pooling.lease import Lease
from ..pooling.session.statements import CHANGES
from ..pooling.session.use import Use
from .holding import Held, own_blocks, why_held


class AsIf:
    """The borrows of one connection that is in a transaction from before.

    `to_request_end`: as with `return_at="request"`.
    """

    def __init__(self, wrapper: Any, lease: Lease, *, to_request_end: bool) -> None:
        self.alias: str = wrapper.alias
        self.use: Use = lease.use
        # Where each borrow would have been.
        self.places: list[str] = []
        self._wrapper = wrapper
        self.borrower = lease.borrower
        self._to_request_end = to_request_end
        self._outer_blocks = len(wrapper.atomic_blocks)
        self._outer_cursors = len(self.use.open_cursors)
        self._borrowed = False
        # Whether the running statement is the SAVEPOINT of an atomic block that begins, which isn't
        # among the connection's blocks yet.
        self._begins_block = False

    def begin(self) -> None:
        use, wrapper = self.use, self._wrapper
        self._before = (use.effect, use.reason, use.changed_at, use.prepared, use.handled)
        self._doubt_before = use.doubt
        self._watcher_before, self._asked_for_before = use.watcher, wrapper._asked_for
        # What was there before isn't the code's doing.
        use.forget_effect()
        wrapper._asked_for = False
        use.watcher = lambda: self
        wrapper.execute_wrappers.append(self._execute)

    def end(self) -> None:
        use, wrapper = self.use, self._wrapper
        wrapper.execute_wrappers.remove(self._execute)
        use.watcher = self._watcher_before
        wrapper._asked_for |= self._asked_for_before
        effect, reason, changed_at, prepared, handled = self._before
        if reason:
            use.reason, use.changed_at = reason, changed_at
        use.effect = max(use.effect, effect)
        use.prepared |= prepared
        use.handled |= handled

    def held(self) -> Held | None:
        """Return what would be held now."""
        why = self._why()
        place = self.places[-1] if self.places else ""
        return Held(alias=self.alias, place=place, why=why) if why else None

    def changed(self) -> str:
        """Return what changed the session, or `""`."""
        use = self.use
        if use.effect >= CHANGES:
            return use.reason or "a statement"
        if use.handled or use.doubt != self._doubt_before:
            return "direct use of psycopg's connection"
        return ""

    def unused(self) -> None:
        """Note that the last open cursor was closed: see `Watcher`."""
        if self._begins_block:
            self._begins_block = False
        else:
            self._give_back()
        if self._watcher_before is not None and (watcher := self._watcher_before()) is not None:
            watcher.unused()

    def request_ended(self) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._borrowed = bool(self._why())

    def _why(self) -> str:
        outer_blocks, outer_cursors = self._outer_blocks, self._outer_cursors
        if why := why_held(
            self._wrapper, self.use, outer_blocks=outer_blocks, outer_cursors=outer_cursors
        ):
            return why
        if self._borrowed and self._to_request_end and self.borrower.in_request:
            return "return_at='request', to the end of the request"
        return ""

    def _execute(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        is_savepoint = isinstance(sql, str) and sql.startswith("SAVEPOINT ")
        self._begins_block = is_savepoint and not own_blocks(self._wrapper, self._outer_blocks)
        # An atomic block ends this way: it is no longer among the connection's blocks.
        is_end = isinstance(sql, str) and sql.startswith(("RELEASE SAVEPOINT ", "ROLLBACK TO "))
        if not self._borrowed and not is_end:
            self._borrowed = True
            self.places.append(place_of_caller())
        return execute(sql, params, many, context)
