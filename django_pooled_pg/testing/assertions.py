"""The assertions that tests use, and the messages with which they fail."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

from asgiref.sync import sync_to_async

from ..places import place_of_caller
from . import calls
from .calls import Called
from .holding import Held
from .watch import ReturnAt, Watch


class _Assertion:
    """A context manager, for `with` and `async with`; fails at its end."""

    def __init__(self, using: str | None, return_at: ReturnAt | None) -> None:
        self._using = using
        self._return_at = return_at
        self._watch = Watch(using, return_at)

    def _begin(self) -> None:
        # A new one, so that an assertion can be used for several blocks.
        self._watch = Watch(self._using, self._return_at)
        self._watch.begin()

    def _end(self) -> None:
        self._watch.end()

    def _failure(self) -> str:
        """Return why it fails, or `""`."""
        raise NotImplementedError

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, exc_type: object, *exc: object) -> None:
        __tracebackhide__ = True  # pytest shows the block
        try:
            failure = self._failure() if exc_type is None else ""
        finally:
            self._end()
        if failure:
            raise AssertionError(failure)

    # In the thread that runs Django's synchronous code, since that one holds the connections.

    async def __aenter__(self) -> None:
        await sync_to_async(self.__enter__, thread_sensitive=True)()

    async def __aexit__(self, *exc: object) -> None:
        __tracebackhide__ = True
        await sync_to_async(self.__exit__, thread_sensitive=True)(*exc)

    def _told_as_if(self) -> str:
        if not self._watch.is_as_if:
            return ""
        return "\nThat is how it would be without the transaction that the test runs in."


class max_borrows(_Assertion):
    """Fail if a block borrows more than `n` connections of an alias, one after another or at once::

        with max_borrows(1):
            client.get("/report/")

    `using`: an alias; by default all aliases, each by itself. `return_at`: count as if that were
    the pools' setting.
    """

    def __init__(
        self, n: int, *, using: str | None = None, return_at: ReturnAt | None = None
    ) -> None:
        super().__init__(using, return_at)
        self._n = n

    def _failure(self) -> str:
        found = []
        for alias, places in self._watch.borrows().items():
            if len(places) > self._n:
                listed = "".join(f"\n  {i}. {_at(p)}" for i, p in enumerate(places, start=1))
                found.append(
                    f"{len(places)} borrows of {alias!r}, at most {self._n} expected:{listed}"
                )
        return "\n".join(found) + self._told_as_if() if found else ""


class no_connection_while_calling(_Assertion):
    """Fail if a connection is held while a block calls other services::

        with no_connection_while_calling():
            client.post("/orders/")

    Each of `functions` is the dotted path of a function whose calls count as outgoing ones, too,
    such as `"shop.payments.charge"`, even if it is a mock. `allow`: hosts that may be called, such
    as `"redis"` or `"127.0.0.1:6379"`. `using`: an alias; all of them by default. `return_at`: as
    if that were the pools' setting.
    """

    def __init__(
        self,
        *functions: str,
        allow: Iterable[str] = (),
        using: str | None = None,
        return_at: ReturnAt | None = None,
    ) -> None:
        super().__init__(using, return_at)
        self._functions = functions
        self._allowed = _Allowed(allow)

    def _begin(self) -> None:
        self._found: dict[tuple[Called, tuple[str, ...]], str] = {}
        super()._begin()
        self._replaced: list[calls.Replaced] = []
        try:
            calls.listen(self)
            for path in self._functions:
                self._replaced.append(calls.watch_function(path))
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        for replaced in reversed(self._replaced):
            replaced.put_back()
        calls.forget(self)
        super()._end()

    def cares(self) -> bool:
        return bool(self._watch.held())

    def called(self, who: Called) -> None:
        held = self._watch.held()
        if not held or who in self._allowed:
            return
        # A call sends and receives several times, but is reported once.
        key = who, tuple(each.place for each in held)
        self._found.setdefault(key, _described(who, place_of_caller(), held))

    def _failure(self) -> str:
        if not self._found:
            return ""
        one = len(self._found) == 1
        what = "an outgoing call" if one else f"{len(self._found)} outgoing calls"
        return (
            f"A connection is held during {what}:"
            + "".join(self._found.values())
            + self._told_as_if()
        )


class no_session_state(_Assertion):
    """Fail if a block leaves state in a session: a `SET`, an advisory lock, a temporary table, ...
    ::

        with no_session_state():
            client.get("/report/")

    Such a session has to be reset, and with `return_at="transaction"` it is pinned to its borrower.
    `using`: an alias; all of them by default.
    """

    def __init__(self, *, using: str | None = None) -> None:
        super().__init__(using, None)

    def _failure(self) -> str:
        changes = self._watch.changes()
        if not changes:
            return ""
        told = "".join(f"\n  {c.alias!r}: {c.what}, {_at(c.place)}" for c in changes)
        return f"State is left in a session:{told}"


class PoolAssertions:
    """The same for `unittest`: a mixin for a `TestCase`; use its methods with `with`."""

    def assertMaxBorrows(
        self, n: int, *, using: str | None = None, return_at: ReturnAt | None = None
    ) -> max_borrows:
        """See `max_borrows`."""
        return max_borrows(n, using=using, return_at=return_at)

    def assertNoConnectionWhileCalling(
        self,
        *functions: str,
        allow: Iterable[str] = (),
        using: str | None = None,
        return_at: ReturnAt | None = None,
    ) -> no_connection_while_calling:
        """See `no_connection_while_calling`."""
        return no_connection_while_calling(
            *functions, allow=allow, using=using, return_at=return_at
        )

    def assertNoSessionState(self, *, using: str | None = None) -> no_session_state:
        """See `no_session_state`."""
        return no_session_state(using=using)


class _Allowed:
    """Hosts that may be called, with or without a port. Names are looked up at the first call."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = [entries] if isinstance(entries, str) else list(entries)
        self._known: set[tuple[str, int | None]] | None = None

    def __contains__(self, who: Called) -> bool:
        if self._known is None:
            self._known = {known for entry in self._entries for known in _addresses(entry)}
        return (who.host, None) in self._known or (who.host, who.port) in self._known


def _addresses(entry: str) -> Iterable[tuple[str, int | None]]:
    host, _, port_text = entry.rpartition(":")
    if not (host and port_text.isdecimal()) or (":" in host and host[0] != "["):
        host, port_text = entry, ""
    host = host.strip("[]")
    port = int(port_text) if port_text else None
    yield host, port
    with suppress(OSError):  # a name that can't be resolved has no address
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            yield str(address[0]), port


def _described(who: Called, place: str, held: list[Held]) -> str:
    told = f"\n  {who} is called {_at(place)}"
    for each in held:
        borrowed = f", borrowed {_at(each.place)}" if each.place else ""
        told += f"\n    {each.alias!r} is held by {each.why}{borrowed}"
    return told


def _at(place: str) -> str:
    return f"at {place}" if place else "somewhere in a library"
