"""What a backing asks of the budget, which is above it."""

from __future__ import annotations

from typing import Protocol

from ..config import Connection


class Slot:
    """The right to open one connection; it lapses when nobody refers to it."""

    __slots__ = ("__weakref__",)


class Slots(Protocol):
    """Where a backing's connections get their slots."""

    def take(self) -> Slot | None:
        """Return a slot, or `None`. Call it in a worker, which no interrupt reaches."""

    def want(self) -> bool:
        """Note that one was missing: `SharingBacking.grow` is called when there is one.

        Return whether it is: not if `take` failed.
        """

    def take_spare(self) -> Slot | None:
        """Return a slot that this process already has; a borrower may call it."""

    def settle(self, slot: Slot) -> None:
        """Note that the connection was opened and now has its slot, or couldn't be opened."""

    def give_up(self, connection: Connection) -> None:
        """Close a connection that is no longer counted, and let another process have its slot."""
