"""Owns what a backing asks of the budget, which is above it."""

from __future__ import annotations

from typing import Protocol

from ..config import Connection


class Slot:
    """The right to make one connection; nobody's any more when nobody refers to it."""

    __slots__ = ("__weakref__",)


class Slots(Protocol):
    """Where a backing's connections get their slots."""

    def take(self) -> Slot | None:
        """Return a slot; `None` where there is none. To be called in a worker, which no interrupt reaches."""

    def want(self) -> bool:
        """Note that one was missing: `SharingBacking.grow` is called when there is one.

        Return whether it is: not if `take` failed.
        """

    def take_spare(self) -> Slot | None:
        """Return a slot that this process has already; may be called by a borrower."""

    def settle(self, slot: Slot) -> None:
        """Note that the connection was made, and has its slot now, or could not be made."""

    def give_up(self, connection: Connection) -> None:
        """Close a connection that counts no more, and let another process have its slot."""
