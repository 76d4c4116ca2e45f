"""Keeps the Unix socket on which this process answers questions about its pools.

Must never get in the way of the work: whatever goes wrong here, a borrow goes on. Each serving
process has it, so the part that answers (`answering.py`) is imported only when somebody asks.

Threads, not asyncio: under gevent an event loop in "another thread" would count as running in
every greenlet, and Django would refuse all database access there.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path

from ..pooling import registry
from ..runtime_dir import runtime_dir
from . import leftovers

logger = logging.getLogger(__name__)

# Seconds within which a client must have sent its request, and then taken its answer.
CLIENT_SECONDS = 1.0
# Seconds between two checks whether the socket's file still exists.
CHECK_SECONDS = 10.0
_MAX_CLIENTS = 16

# Guards the start; nobody waits for it.
_starting = threading.Lock()
_endpoint: _Endpoint | None = None
_warned = False
_exiting = False
# Held while a client's thread imports, and by any thread that forks: a child that is forked in the
# middle of an import has half of the module, and waits for the rest forever.
_importing = threading.Lock()
os.register_at_fork(
    before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
)


def ensure_running() -> None:
    """Answer from now on, if this process doesn't yet. Cheap; never raises or waits."""
    global _endpoint, _warned
    if _endpoint is not None or _exiting:
        return
    # Doesn't wait: whoever holds the lock does what we want, and it might be this thread,
    # interrupted by a signal handler.
    if not _starting.acquire(blocking=False):
        return
    try:
        if _endpoint is None:
            _endpoint = _Endpoint()
    except Exception as ex:  # whatever it is, it must not break the borrow
        if not _warned:
            _warned = True
            logger.warning(
                "manage.py poolstats won't see process %d: %s",
                os.getpid(),
                ex,
                exc_info=not isinstance(ex, OSError),
            )
    finally:
        _starting.release()


def stop() -> None:
    """Stop answering and remove the socket. `ensure_running` starts it again."""
    global _endpoint
    endpoint, _endpoint = _endpoint, None
    if endpoint is not None:
        endpoint.stop()


class _Endpoint:
    """A listening socket and the thread that waits for clients."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._stopping = threading.Event()
        self._free_slots = threading.BoundedSemaphore(_MAX_CLIENTS)
        self._clients: set[socket.socket] = set()
        self._listener, self._path = _listen()
        self._thread = threading.Thread(
            target=self._run, name="django_pooled_pg endpoint", daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            self._path.unlink(missing_ok=True)
            self._listener.close()
            raise

    def stop(self) -> None:
        # A child that was forked without Python's knowledge must leave the file alone.
        if self._pid != os.getpid():
            return
        self._stopping.set()
        for client in tuple(self._clients):
            with suppress(OSError):  # the client, or its own thread, has closed it
                client.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        woken = self._wake()
        # The file goes before the listener: a socket that refuses is a sign of a dead process.
        self._path.unlink(missing_ok=True)
        if woken:
            self._thread.join(CLIENT_SECONDS)
        self._listener.close()

    def _wake(self) -> bool:
        # Closing or shutting down a listener doesn't wake the thread that waits for it.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            try:
                client.connect(os.fspath(self._path))
            except BlockingIOError:
                pass  # more clients than it can handle: it is awake
            except OSError:
                return False  # the file was deleted; the thread wakes within CHECK_SECONDS
        return True

    def close_inherited(self) -> None:
        """In a forked child: let go, so that the parent's socket dies with the parent."""
        # close(), not shutdown(), which would affect the parent's socket.
        for inherited in (self._listener, *self._clients):
            inherited.close()

    # In the endpoint's own thread

    def _run(self) -> None:
        try:
            # Otherwise they'd pile up where nobody ever calls poolstats.
            leftovers.sweep(self._path.parent)
        except OSError as ex:
            logger.warning("Sockets of dead processes could not be removed: %s", ex)
        while not self._stopping.is_set():
            try:
                self._listener.settimeout(CHECK_SECONDS)
                client, _ = self._listener.accept()
            except TimeoutError:
                if not self._stopping.is_set():
                    self._keep_file()
            except OSError as ex:
                if not self._stopping.is_set():
                    logger.warning("The poolstats endpoint can't accept: %s", ex)
                    # Don't spin, for example while no file descriptors are left.
                    self._stopping.wait(CLIENT_SECONDS)
            else:
                if self._stopping.is_set():
                    client.close()
                else:
                    self._admit(client)

    def _keep_file(self) -> None:
        # Touched, so that it doesn't look old to cleaners of temporary folders. Only when no client
        # came: each client that comes has found the file.
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._listen_again()
        except OSError as ex:
            logger.warning("The poolstats endpoint can't touch %s: %s", self._path, ex)

    def _listen_again(self) -> None:
        try:
            listener, path = _listen()
        except OSError as ex:
            logger.debug("The poolstats endpoint can't make its socket again: %s", ex)
            return
        lost, self._listener, self._path = self._listener, listener, path
        lost.close()
        if self._stopping.is_set():  # and stop() saw only the lost one
            path.unlink(missing_ok=True)
            listener.close()

    def _admit(self, client: socket.socket) -> None:
        self._clients.add(client)
        # Waits at most CLIENT_SECONDS, since nobody stays longer.
        self._free_slots.acquire()
        try:
            # One thread each, so that a client that hangs delays nobody else.
            threading.Thread(
                target=self._serve, args=(client,), name="django_pooled_pg client", daemon=True
            ).start()
        except RuntimeError:
            # No more threads, because of a limit or because the interpreter exits.
            self._serve(client)

    # In a client's thread

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                with _importing:
                    from .answering import converse
                converse(client, CLIENT_SECONDS)
        except OSError as ex:
            logger.debug("A client of the poolstats endpoint went away or hung: %s", ex)
        finally:
            self._clients.discard(client)
            self._free_slots.release()


def _listen() -> tuple[socket.socket, Path]:
    path = runtime_dir() / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
    unfinished = path.with_suffix(".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(unfinished))
        listener.listen(128)
        # Only now under its name: before listen() it refuses, like a dead process's socket.
        unfinished.rename(path)
    except BaseException:
        listener.close()
        unfinished.unlink(missing_ok=True)
        raise
    return listener, path


@atexit.register
def _stop_at_exit() -> None:
    global _exiting
    _exiting = True
    stop()


def _forget_in_child() -> None:
    global _starting, _endpoint, _warned
    # A thread that doesn't exist here may have held the lock at the fork.
    _starting = threading.Lock()
    _warned = False
    inherited, _endpoint = _endpoint, None
    if inherited is not None:
        inherited.close_inherited()


registry.on_fork(_forget_in_child)
