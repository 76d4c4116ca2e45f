"""Notices outgoing calls: where a thread talks to another service, and may wait for it.

It watches two places. One is Python's TCP sockets, which all clients written in Python use, even
for connections that were kept alive; libpq doesn't use them, so the database's own never count. The
other is the entry points of common clients, since tests often replace what is behind those.
"""

from __future__ import annotations

import functools
import gc
import inspect
import pkgutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakSet

from ..pooling.process.locks import Lock


@dataclass(frozen=True, slots=True)
class Called:
    """Who is called: a host and its port as far as they are known, or a function by its name."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


class Listener(Protocol):
    def cares(self) -> bool:
        """Whether it wants to know of a call that the current thread makes now."""

    def called(self, who: Called) -> None:
        """Note a call. Must not raise."""


_INTERNET = (socket.AF_INET, socket.AF_INET6)
_OF_SOCKETS = ("connect", "connect_ex", "send", "sendall", "recv", "recv_into")
# Module, class, method, and the URL that a call of the method is for.
_DOORS: tuple[tuple[str, str, str, Callable[..., object]], ...] = (
    ("requests.sessions", "Session", "send", lambda self, request: request.url),
    ("httpx", "Client", "send", lambda self, request: request.url),
    ("httpx", "AsyncClient", "send", lambda self, request: request.url),
    (
        "urllib3.connectionpool",
        "HTTPConnectionPool",
        "urlopen",
        lambda self, *args: f"{self.scheme}://{self.host}:{self.port or ''}",
    ),
    ("botocore.client", "BaseClient", "_make_api_call", lambda self, *_: self.meta.endpoint_url),
    ("aiohttp.client", "ClientSession", "_request", lambda self, method, url: url),
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Replaced:
    """A function that was replaced: where it is, our replacement, and what was there."""

    owner: Any
    name: str
    ours: Any
    was: Any
    # Whether it was the owner's own, not inherited.
    was_own: bool

    def put_back(self) -> None:
        if inspect.getattr_static(self.owner, self.name, None) is not self.ours:
            return  # somebody has wrapped ours, and the wrapper goes on calling it
        if self.was_own:
            setattr(self.owner, self.name, self.was)
        else:
            delattr(self.owner, self.name)


# Guards what follows, except for reading `_listeners`, which is replaced as a whole.
_lock = Lock()
_listeners: tuple[Listener, ...] = ()
_replaced: list[Replaced] = []

# Whether this context is inside a reported call: everything that follows belongs to that.
_inside: ContextVar[bool] = ContextVar("django_pooled_pg_inside_call", default=False)

# What is sent to a client of this process's own servers is an answer, not a call. These are their
# ports, and the sockets that aren't theirs, because finding out takes some time.
_served_ports: set[int] = set()
_others: WeakSet[Any] = WeakSet()


def listen(listener: Listener) -> None:
    """Tell `listener` about each call from now on."""
    global _listeners
    with _lock:
        if not _listeners:
            _replaced.extend(_install())
        _listeners = (*_listeners, listener)


def forget(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = tuple(each for each in _listeners if each is not listener)
        if not _listeners:
            for replaced in reversed(_replaced):
                replaced.put_back()
            _replaced.clear()
            _served_ports.clear()


def watch_function(path: str) -> Replaced:
    """Treat each call of the function at a dotted path as an outgoing one.

    Raises what importing it raises, or `AttributeError`.
    """
    where, _, name = path.rpartition(".")
    if not where:
        raise ValueError(
            f"{path!r} is no dotted path to a function, such as 'shop.payments.charge'."
        )
    return _replace(pkgutil.resolve_name(where), name, lambda *args: Called(path))


def _install() -> Iterator[Replaced]:
    for name in _OF_SOCKETS:
        yield _replace(socket.socket, name, _peer)
    # TLS bypasses the methods of plain sockets.
    if (ssl_socket := getattr(sys.modules.get("ssl"), "SSLSocket", None)) is not None:
        for name in {*_OF_SOCKETS, "read", "write"} & set(vars(ssl_socket)):
            yield _replace(ssl_socket, name, _peer)
    for module, class_name, name, url in _DOORS:
        owner = getattr(sys.modules.get(module), class_name, None)
        if hasattr(owner, name):
            yield _replace(owner, name, functools.partial(_called_by_url, url))


def _replace(owner: Any, name: str, who: Callable[..., Called | None]) -> Replaced:
    was = inspect.getattr_static(owner, name)
    ours: Any
    if isinstance(was, staticmethod | classmethod):
        ours = type(was)(_telling(was.__func__, who))
    elif inspect.isclass(owner) and not hasattr(type(was), "__get__"):
        ours = staticmethod(_telling(was, who))  # for example a mock, which gets no `self`
    else:
        ours = _telling(was, who)
    replaced = Replaced(owner, name, ours, was, was_own=name in vars(owner))
    setattr(owner, name, ours)
    return replaced


def _telling(function: Any, who: Callable[..., Called | None]) -> Any:
    def tell(args: Any, kwargs: Any) -> bool:
        caring = [listener for listener in _listeners if listener.cares()]
        if not caring or _inside.get() or (called := who(*args, *kwargs.values())) is None:
            return False
        for listener in caring:
            listener.called(called)
        return True

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not tell(args, kwargs):
            return function(*args, **kwargs)
        token = _inside.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _inside.reset(token)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        if not tell(args, kwargs):
            return await function(*args, **kwargs)
        token = _inside.set(True)
        try:
            return await function(*args, **kwargs)
        finally:
            _inside.reset(token)

    return call_async if inspect.iscoroutinefunction(function) else call


def _called_by_url(url_of: Callable[..., object], *args: Any) -> Called | None:
    try:
        url = urlsplit(str(url_of(*_leading(url_of, args))))
        return Called(url.hostname, url.port or _PORTS.get(url.scheme)) if url.hostname else None
    except (AttributeError, IndexError, TypeError, ValueError):
        return None  # the client isn't as we know it: its sockets tell


def _leading(function: Callable[..., object], args: Sequence[Any]) -> Sequence[Any]:
    code: Any = getattr(function, "__code__", None)
    return args[: code.co_argcount] if not code.co_flags & inspect.CO_VARARGS else args


def _peer(sock: Any, *args: Any) -> Called | None:
    try:
        if sock.family not in _INTERNET or sock.type != socket.SOCK_STREAM:
            return None
        # connect() gets an address.
        address = args[0] if args and isinstance(args[0], tuple) else sock.getpeername()
        return None if _is_served(sock) else Called(str(address[0]), int(address[1]))
    except (OSError, TypeError, ValueError):
        return None  # not connected, or the address doesn't exist


def _is_served(sock: Any) -> bool:
    """Tell whether a server of this process accepted it, as Django's live server does."""
    if sock in _others:
        return False
    port = sock.getsockname()[1]
    if port and port not in _served_ports:
        _served_ports.update(_listening())
    if port in _served_ports:
        return True
    _others.add(sock)
    return False


def _listening() -> set[int]:
    # By type(): asking some objects for their __class__ has side effects.
    sockets: list[Any] = [o for o in gc.get_objects() if issubclass(type(o), socket.socket)]
    ports = set()
    for each in sockets:
        try:
            if each.family in _INTERNET and each.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                ports.add(each.getsockname()[1])
        except OSError:
            pass  # closed
    return ports
