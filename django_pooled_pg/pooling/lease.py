"""Leases: who holds which connection since when; lends and closes nothing itself."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterable
from functools import cache
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
    from .session.use import Use


class Holder(Protocol):
    """What borrows for a thread; it learns when its lease ends without its doing."""

    owner: Borrower
    """The thread it belongs to; where it is shared, another thread may borrow with it."""

    @property
    def allow_thread_sharing(self) -> bool:
        """Whether other threads may use it, so that it may outlive the thread that borrowed."""

    def holds(self, lease: Lease) -> bool:
        """Tell whether it has that lease."""

    def give_back_unused(self, lease: Lease) -> None:
        """Give that lease back if nothing needs it; called from a thread other than the owner."""

    def lease_lost(self, *, by_fork: bool) -> None:
        """Forget the lease: from now on, the connection belongs to somebody else."""


HolderRef = Callable[[], Holder | None]


class Lease:
    """The record of one borrow. `since` is a `time.monotonic()` reading."""

    # A plain class: each borrow makes one, and a dataclass costs more.
    __slots__ = (
        "backing",
        "borrower",
        "connection",
        "holder",
        "on_return",
        "pinned",
        "pool",
        "reported",
        "returned",
        "session",
        "since",
        "use",
    )

    def __init__(
        self,
        pool: Pool,
        connection: psycopg.Connection[Any],
        session: Session,
        use: Use,
        backing: AnyBacking,
        holder: HolderRef | None,
        borrower: Borrower,
        since: float,
    ) -> None:
        self.pool = pool
        # The pool's own; the borrower has `use.raw`.
        self.connection = connection
        self.session = session
        self.use = use
        # The psycopg_pool it came from: after a close_pool() the pool has another one.
        self.backing = backing
        # Weak: a lease must not keep the wrapper of a dead thread alive.
        self.holder = holder
        self.borrower = borrower
        self.since = since
        # Whether it has been given back.
        self.returned = False
        # Whether its session's state keeps it from going back early.
        self.pinned = False
        # Whether the log has reported it for being held too long.
        self.reported = False
        # Called once, with `time.monotonic()`, when it goes back, in whatever thread that happens:
        # with the pool's lock held, before anybody else gets the session. Must be quick and
        # not raise.
        self.on_return: Callable[[float], None] | None = None

    def is_held(self) -> bool:
        """Tell whether the holder knows of it; without a holder, it is held until returned."""
        if self.holder is None:
            return True
        holder = self.living_holder()
        return holder is not None and holder.holds(self)

    def living_holder(self) -> Holder | None:
        """Return the holder; `None` if there never was one, or it was garbage-collected."""
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
    """Say where its borrower is: in the application if possible, else in a library.

    It is looked up now, so a lease costs nothing for it.
    """
    frames = list(lease.borrower.frames())
    if not frames:
        return "not running"
    known = libraries()
    own = (frame for frame in frames if not frame.f_code.co_filename.startswith(known))
    return f"at {describe_frame(next(own, frames[0]))}"


@cache
def libraries() -> tuple[str, ...]:
    """Return the paths below which code says nothing about the application."""
    return (
        *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
        str(Path(django.__file__).parent),
        str(Path(__file__).parents[1]),
        "<frozen ",
    )


def describe_frame(frame: FrameType) -> str:
    """Say where in the code a frame is: `"file:line in function"`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
