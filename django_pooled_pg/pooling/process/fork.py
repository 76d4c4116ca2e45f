"""Notices that this process was forked, and lets go of a connection in the child.

Knows no pool.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from .locks import Lock, RLock

logger = logging.getLogger(__name__)

# The process in which the listeners were last called, or the module loaded.
_pid = os.getpid()
# Held while a child calls the listeners.
_lock = RLock()
_listeners: list[Callable[[], None]] = []


def on_fork(listener: Callable[[], None]) -> None:
    """Call `listener` in each forked child, after those registered earlier."""
    if listener not in _listeners:
        _listeners.append(listener)


def unnoticed() -> bool:
    """Tell whether this is a forked child that hasn't noticed yet."""
    return os.getpid() != _pid


def notice() -> None:
    """Call the listeners if this is a forked child and nobody has called them in it."""
    global _pid
    if unnoticed():
        with _lock:
            if unnoticed():
                for listener in _listeners:
                    try:
                        listener()
                    except Exception:  # one must not leave the others in the parent's state
                        logger.exception("%r failed in a forked child", listener)
                _pid = os.getpid()


def _in_child() -> None:
    global _lock
    _lock = RLock()
    notice()


os.register_at_fork(after_in_child=_in_child)


def listen_to_uwsgi() -> bool:
    """Learn of uWSGI's forks, of which Python doesn't; return whether uWSGI runs this process.

    uWSGI's hook holds only one function. Ours calls the one it finds there, but later code may
    replace ours: then nobody calls `notice()`.
    """
    uwsgi = sys.modules.get("uwsgi")
    if not hasattr(uwsgi, "masterpid"):  # it may be a folder of that name
        return False
    others = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        notice()
        if others is not None:
            others()

    uwsgi.post_fork_hook = hook  # type: ignore[union-attr]  # a module without types
    return True


def detach_from_server(connection: psycopg.Connection[Any]) -> None:
    """Point the inherited socket elsewhere, so that nothing here can reach the server.

    Child and parent share the socket. Whatever libpq sends from the child, even just the
    goodbye of a `close()`, would arrive in the parent's session and break or end it.
    (psycopg itself leaves inherited connections alone when they are finalized, but not
    when they are closed or used.)
    """
    # A thread that doesn't exist here may have been in a query: nobody would release its lock.
    connection.lock = Lock()
    # OperationalError: it was closed before the fork and has no socket.
    with suppress(psycopg.OperationalError):
        socket = connection.pgconn.socket
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            os.dup2(nowhere, socket, inheritable=False)
        finally:
            os.close(nowhere)
