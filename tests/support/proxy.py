"""A network between clients and a server that can fail: a TCP proxy in a thread."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

TLS = Path(__file__).with_name("tls")


class Proxy:
    """Listens on `port` of 127.0.0.1 and forwards to another port there.

    `hold`: new connections get nowhere before `resume`; those there are go on.
    `freeze`: no packet gets through any more, and nobody is told.
    `resume`: new connections get through. Those from before are forgotten, as a firewall or a
    load balancer forgets them: both ends believe in them, and neither hears of the other.
    `drop`: both ends of each connection get a reset; new ones are forwarded.

    With `tls`, clients talk TLS to it, since the embedded server can't do that by itself.
    """

    def __init__(self, upstream_port: int, *, tls: bool = False) -> None:
        self._upstream_port = upstream_port
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(TLS / "server.crt", TLS / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._ends: set[_End] = set()
        self._beginning: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._forwards = asyncio.Event()
        self._forwards.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._loop.call_soon_threadsafe(self._loop.add_reader, self._listener, self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    @property
    def connections(self) -> int:
        """How many connections it forwards; one that was closed, until both ends know."""
        return (len(self._ends) + 1) // 2

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._forwards.clear)

    def freeze(self) -> None:
        self._run(self._freeze())

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._forwards.set)

    def drop(self) -> None:
        self._run(self._drop())

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    # What follows runs in the thread.

    def _accept(self) -> None:
        with suppress(BlockingIOError):  # it has gone
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._beginning.add(task := self._loop.create_task(self._forward(client)))
            task.add_done_callback(partial(self._has_begun, client))

    def _has_begun(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if task.cancelled():
            client.close()

    async def _forward(self, client: socket.socket) -> None:
        try:
            # The kernel has accepted; but nobody answers.
            await self._forwards.wait()
            if self._tls:
                await self._loop.sock_recv(client, 8)  # PostgreSQL's SSLRequest
                await self._loop.sock_sendall(client, b"S")
            _, server = await self._loop.create_connection(
                lambda: _End(self._ends), "127.0.0.1", self._upstream_port
            )
            _, end = await self._loop.connect_accepted_socket(
                lambda: _End(self._ends),
                client,
                ssl=self._tls,
                # Say goodbye, but don't wait for an answer: as PostgreSQL does it.
                ssl_shutdown_timeout=0.01 if self._tls else None,
            )
            server.join(end)
        except OSError:
            client.close()

    async def _freeze(self) -> None:
        self._forwards.clear()
        for end in self._ends:
            end.transport.pause_reading()

    async def _drop(self) -> None:
        for end in list(self._ends):
            end.reset()
        while self._ends:
            await asyncio.sleep(0)

    async def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        await self._drop()


class _End(asyncio.Protocol):
    """The proxy's end of one connection; what it reads goes to the other end it was joined to."""

    transport: asyncio.Transport

    def __init__(self, ends: set[_End]) -> None:
        self._ends = ends
        self._other: _End | None = None

    def join(self, other: _End) -> None:
        self._other, other._other = other, self
        self.transport.resume_reading()
        other.transport.resume_reading()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transport.pause_reading()
        self._ends.add(self)

    def data_received(self, data: bytes) -> None:
        assert self._other is not None
        self._other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.discard(self)
        if self._other is not None:
            self._other.transport.close()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
