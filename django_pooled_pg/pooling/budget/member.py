"""One pool's part in its budget: gets slots for it, and shares them, in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic

import psycopg

from ..backing.null import AnyBacking
from ..backing.slots import Slot
from ..config import Connection, PoolConfig
from ..printable import printable
from ..process.locks import Lock
from ..process.naming import process_name
from ..session.session import session_of
from .giving import Giving
from .holding import Holding
from .membership import Membership
from .place import Place
from .records import Record
from .sharing import limit_of, may_take
from .words import holders_said

logger = logging.getLogger(__name__)

# Seconds between two looks: while nothing is wanted; and the shortest and longest while it is.
_LOOK_EVERY = 1.0
_SOON, _LATER = 0.01, 0.25


class Member:
    """Where the connections of one pool get their slots; any thread may call any method.

    `open_connections` returns those that are open, wherever they are. `failed` gets the error if no
    slot is available at all. `backing` returns what lends, if anything does.
    """

    def __init__(
        self,
        pool_name: str,
        place: Place,
        config: PoolConfig,
        open_connections: Callable[[], Collection[Connection]],
        failed: Callable[[Exception], None],
        backing: Callable[[], AnyBacking | None],
    ) -> None:
        self._pool_name = pool_name
        self._place = place
        self._failed = failed
        self._backing = backing
        self.holding = Holding(open_connections)
        self.take_spare, self.settle = self.holding.use_spare, self.holding.settle
        # What it tells the others.
        self.record = Record(index=-1, limit=config.budget or 0, min_size=config.min_size)
        # Guards taking slots and letting them go, joining and leaving. Not for borrowers.
        self._changing = Lock()
        self._membership: Membership | None = None
        self._to_close: SimpleQueue[Connection] = SimpleQueue()
        self._giving = Giving(pool_name)
        # How long to wait for others, and until when.
        self._pause, self._next = _SOON, 0.0

    def resize(self, config: PoolConfig) -> None:
        """Adopt other sizes."""
        self.record.limit, self.record.min_size = config.budget or 0, config.min_size
        self.wake()

    # What a backing calls, together with the two of `holding`; see `Slots`

    def take(self) -> Slot | None:
        """See `Slots.take`."""
        if (slot := self.take_spare()) is not None:
            return slot
        error: psycopg.Error | None = None
        with self._changing:
            try:
                membership = self._joined()
                slot = self.take_spare() if self._take(membership, 1) else None
            except OSError as ex:
                error = psycopg.OperationalError(
                    f"Pool {self._pool_name!r} can't connect: it can't use the file of its "
                    f"{self._place.shown}: {printable(str(ex))}"
                )
                error.__cause__ = ex
        if error is not None:
            self._failed(error)
        return slot

    def give_up(self, connection: Connection) -> None:
        """See `Slots.give_up`."""
        self._to_close.put(connection)
        session_of(connection).is_busy = True  # it isn't lost, however long that takes
        self.wake()

    def wake(self) -> bool:
        """Let the thread look now, as when connections were closed; tell whether there is one."""
        if (membership := self._membership) is not None:
            membership.wake(membership.index)
        return membership is not None

    want = wake  # see `Slots.want`

    def members(self) -> list[Record]:
        """Return the records of the budget's members; an empty list if they can't be read."""
        with suppress(OSError):
            if (membership := self._membership) is not None:
                return membership.records()
        return []

    def describe(self) -> str:
        """Say who has the slots, for an error message."""
        return holders_said(self._place.shown, self.members())

    # What follows is called with `_changing` held.

    def _joined(self) -> Membership:
        membership = self._membership
        if membership is not None:
            return self._join_again(membership) if membership.is_lost() else membership
        membership = Membership(self._place)
        # The thread waits for `_changing`.
        thread = threading.Thread(target=self._run, name=f"{self._pool_name}-budget", daemon=True)
        try:
            thread.start()
        except RuntimeError as ex:  # no more threads, because of a limit or because Python exits
            membership.leave()
            raise OSError(f"no thread could be started to share it: {ex}") from ex
        self._enter(membership)
        return membership

    def _enter(self, membership: Membership) -> None:
        self._membership = membership
        self.record.index, self.record.process = membership.index, process_name()
        self._tell(membership)
        membership.wait_for_stragglers()

    def _join_again(self, lost: Membership) -> Membership:
        """Join the file that was made in place of one that was deleted."""
        logger.warning(
            "Pool %r: the file of its %s was deleted; it was made again",
            self._pool_name,
            self._place.shown,
        )
        membership = Membership(self._place)
        lost.close()
        self.holding.take_again(membership.file)
        self._enter(membership)
        return membership

    def _tell(self, membership: Membership) -> None:
        self._count()
        self._giving.tell(membership, self.record)

    def _count(self) -> None:
        record = self.record
        # It uses more than its slots only after the file was deleted.
        record.held = max(len(self.holding), self.holding.used)
        record.busy = self._giving.busy(self._backing())
        record.seen = monotonic()

    def _records(self, membership: Membership) -> list[Record]:
        """Return the records of all members; this one's as it is now."""
        others = (each for each in membership.records() if each.index != self.record.index)
        return [self.record, *others]

    def _take(self, membership: Membership, count: int) -> int:
        """Take free slots that aren't due to others; return how many."""
        records, taken = self._records(membership), 0
        while taken < count:
            self._count()
            now = monotonic()
            if not (
                may_take(self.record, records, now)
                and self.holding.take(membership.file, limit_of(records))
            ):
                break
            taken += 1
            if self.record.wanted:
                self.record.got_at = now
        if taken:
            self._tell(membership)
        return taken

    # In the thread

    def _run(self) -> None:
        said = False
        while True:
            try:
                with self._changing:
                    pause = self._look()
                said = False
            except Exception as ex:  # the other members rely on it
                if not said:
                    logger.warning(
                        "Pool %r: can't share its %s: %s",
                        self._pool_name,
                        self._place.shown,
                        ex,
                        exc_info=not isinstance(ex, OSError),
                    )
                said, pause = True, _LOOK_EVERY
            membership = self._membership
            if pause is None or membership is None:
                return
            with suppress(OSError):  # the socket was replaced by another one
                membership.wait(pause)

    def _look(self) -> float | None:
        """Do what is due; return after how many seconds to call again, `None`: never."""
        membership, backing = self._joined(), self._backing()
        records = self._records(membership)
        self._close_given(membership, records)
        self._want(backing.wanted() - self.holding.under_way if backing is not None else 0)
        self.holding.let_go(membership.file, limit_of(records))
        if backing is None and not len(self.holding):
            self._membership = None
            membership.leave()
            return None
        if backing is not None and self.record.wanted:
            self._grow(membership, backing)
        self._tell(membership)
        others_want = self._share(membership, backing, records)
        if not (self.record.wanted or others_want):
            self._pause, self._next = _SOON, 0.0
            return _LOOK_EVERY
        now = monotonic()
        if now >= self._next:
            # Not each time it is woken itself: two that want slots would keep each other awake.
            if self.record.wanted and self._pause < _LATER:
                membership.wake_others(record for record in records if record.held)
            self._next, self._pause = now + self._pause, min(2 * self._pause, _LATER)
        return min(self._next - now, _LATER if not self._giving.has_more_soon else _SOON)

    def _want(self, wanted: int) -> None:
        if wanted > 0 and not self.record.wanted:
            self.record.since, self._pause, self._next = monotonic(), _SOON, 0.0
        self.record.wanted = max(0, wanted)

    def _grow(self, membership: Membership, backing: AnyBacking) -> None:
        spare = self.holding.spare
        spare += self._take(membership, self.record.wanted - spare)
        if spare > 0:
            self._want(self.record.wanted - spare)
            self.holding.expect(spare)
            backing.grow(spare)

    def _close_given(self, membership: Membership, records: list[Record]) -> None:
        given = []
        with suppress(Empty):
            while True:
                given.append(self._to_close.get_nowait())
        self._close(given, membership, records)

    def _share(
        self, membership: Membership, backing: AnyBacking | None, records: list[Record]
    ) -> bool:
        """Give connections up to those who want them; tell whether to look again soon."""
        idle, again = self._giving.give(membership, backing, self.record, records)
        self._close(idle, membership, records)
        return again

    def _close(
        self, connections: Collection[Connection], membership: Membership, records: list[Record]
    ) -> None:
        def ended() -> None:
            self.holding.let_go(membership.file, limit_of(records))
            self._tell(membership)
            membership.wake_others(record for record in records if record.wanted)

        for connection in connections:
            session_of(connection).is_busy = True  # as in give_up()
        self.holding.close(connections, ended)
        self.record.given += len(connections)
