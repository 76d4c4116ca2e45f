"""Owns leases: who holds which connection since when; lends and closes nothing itself."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import django
import psycopg

if TYPE_CHECKING:
    from .backing.null import AnyBacking
    from .pool import Pool
    from .process.borrowers import Borrower
    from .session.session import Session


class Holder(Protocol):
    """What borrows for a thread: it is told when its lease is gone without its doing."""

    owner: Borrower
    """The thread it belongs to; another one borrows with it where it is shared."""

    @property
    def allow_thread_sharing(self) -> bool:
        """Whether other threads may use it, so that it outlives the thread that borrowed."""

    def holds(self, lease: Lease) -> bool:
        """Tell whether it has that lease."""

    def lease_lost(self) -> None:
        """Forget the lease: the connection is somebody else's from now on."""


# Where code lives that tells nothing about the application.
LIBRARIES = (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    str(Path(django.__file__).parent),
    str(Path(__file__).parents[1]),
    "<frozen ",
)

HolderRef = Callable[[], Holder | None]


@dataclass(slots=True, eq=False)
class Lease:
    """The record of one borrow. `since` is a `time.monotonic()` reading."""

    pool: Pool
    connection: psycopg.Connection[Any]
    session: Session
    # The psycopg_pool it came from: after a close_pool() the pool has another one.
    backing: AnyBacking
    # Weak: a lease must not keep the wrapper of a dead thread alive.
    holder: HolderRef | None
    borrower: Borrower
    since: float
    # Whether its session's state keeps it from going back early.
    pinned: bool = False
    # Whether it was logged for being held too long.
    reported: bool = False
    # Called once, with `time.monotonic()`, when it goes back, in whatever thread that happens:
    # with the pool's lock held, while the session is still the lease's. Must be quick, and not
    # raise.
    on_return: Callable[[float], None] | None = None

    def is_held(self) -> bool:
        """Tell whether the holder knows of it; one without a holder is held until returned."""
        if self.holder is None:
            return True
        holder = self.living_holder()
        return holder is not None and holder.holds(self)

    def living_holder(self) -> Holder | None:
        """Return the holder; `None` if there never was one, or if it was collected."""
        return self.holder() if self.holder is not None else None


def describe_longest(leases: Iterable[Lease], limit: int = 3) -> str:
    """Say who has held connections longest, and where their threads are now."""
    now = monotonic()
    longest = sorted(leases, key=lambda lease: lease.since)[:limit]
    return "; ".join(
        f"{lease.borrower.name} ({lease.borrower.thread_id}) for {now - lease.since:.1f} s, "
        f"now {place_of(lease)}"
        for lease in longest
    )


def place_of(lease: Lease) -> str:
    """Say where the lease's thread is: in the application if that can be told, else in a library.

    It is looked up now (`sys._current_frames`), so a lease costs nothing for it.
    """
    frame = sys._current_frames().get(lease.borrower.thread_id)
    if frame is None:
        return "not running"
    place: FrameType | None = frame
    while place is not None and place.f_code.co_filename.startswith(LIBRARIES):
        place = place.f_back
    found = place or frame
    return f"at {describe_frame(found)}"


def describe_frame(frame: FrameType) -> str:
    """Say where in the code a frame is: `"file:line in function"`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
