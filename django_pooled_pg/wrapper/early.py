"""Gives a connection back before the request ends: after the last cursor, or the transaction.

It stays while its thread uses it, and while code may have it without a cursor or a transaction.
"""

from __future__ import annotations

import threading
from typing import Any

from ..pooling import registry
from ..pooling.lease import Lease
from ..pooling.process.locks import Lock
from .pool import PoolMixin

# Guards taking the connection from another thread's wrapper; see give_back_unused().
_taking = Lock()


def _in_child() -> None:
    global _taking
    _taking = Lock()  # a thread that doesn't exist here may have held it


registry.on_fork(_in_child)


class EarlyReturnMixin(PoolMixin):
    """A wrapper that knows whether its lease is in use, and gives it back when it isn't."""

    _thread_ident: int
    _thread_sharing_count: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lease: Lease | None = None
        # How many calls deep this thread is in code that uses self.connection without a cursor or a
        # transaction. It mustn't go back there, even if a forgotten cursor is garbage-collected.
        self._using = 0
        # Whether another thread is checking whether it may take the connection.
        self._being_taken = False
        # Whether somebody may use self.connection directly, so that it has to stay.
        self._asked_for = False

    def _enter(self) -> None:
        # Announce first, then look; the taker does it the other way round. See give_back_unused().
        self._using += 1
        if self._being_taken:
            self._wait_for_taker()

    def _wait_for_taker(self) -> None:
        with _taking:
            pass

    def unused(self) -> None:
        """Give the connection back, unless something needs it to be the same one later."""
        # A cursor may be closed or garbage-collected in any thread: then housekeeping does this.
        if self._lease is not None and self._thread_ident == threading.get_ident():
            self._give_back_early(self._lease)

    def _give_back_early(self, lease: Lease) -> None:
        use = lease.use
        if (
            self._using
            or not self.autocommit  # in a transaction
            or use.open_cursors
        ):
            return
        pool = lease.pool
        if use.effect:
            pool.note_new_types(use)
        if (
            use.watcher is not None
            and not self._asked_for
            and not self._thread_sharing_count
            and pool.may_end(lease)
        ):
            # Forgotten first: whatever comes in between, nobody has it twice.
            self._lease = self.connection = None
            pool.give_back(lease)

    def give_back_unused(self, lease: Lease) -> None:
        """Give that lease back if nothing needs it; called from a thread other than the owner."""
        # The owner announces that it uses the connection, and then looks for this flag; this sets
        # the flag, and then looks whether the owner uses it. One of the two sees the other.
        with _taking:
            self._being_taken = True
            try:
                if self._lease is lease:
                    self._give_back_early(lease)
            finally:
                self._being_taken = False

    def get_autocommit(self) -> bool:
        if (
            self.connection is None
            and not self.in_atomic_block
            and self.settings_dict["AUTOCOMMIT"]
            and self.pool is not None
        ):
            return True  # as it would be after connecting
        self._enter()
        try:
            return super().get_autocommit()
        finally:
            self._using -= 1

    def set_autocommit(self, *args: Any, **kwargs: Any) -> None:
        self._enter()
        try:
            super().set_autocommit(*args, **kwargs)
        finally:
            self._using -= 1
            self.unused()

    def run_and_clear_commit_hooks(self) -> None:
        # The transaction is over. Hooks notify queues and mail servers, which takes time; one that
        # queries borrows again.
        using, self._using = self._using, max(0, self._using - 1)
        try:
            self.unused()
            super().run_and_clear_commit_hooks()
        finally:
            self._using = using
