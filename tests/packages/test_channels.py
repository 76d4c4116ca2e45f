"""Websockets by Channels: they have no end as a request has, and still hold no connection."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest

from tests.support.servers import prepare_site, program, serving

pytest.importorskip("channels", reason="channels isn't installed: make test-packages")
client = pytest.importorskip(
    "websockets.asyncio.client", reason="websockets isn't installed: make test-packages"
)

APPLICATION = "tests.support.web.sockets:application"
SOCKETS = 50
UVICORN = [sys.executable, "-m", "uvicorn", APPLICATION, "--port={port}", "--lifespan=off"]
DAPHNE = [program("daphne"), "-b127.0.0.1", "-p{port}", APPLICATION]


@pytest.fixture(scope="module", autouse=True)
def migrated() -> None:
    prepare_site()


@pytest.mark.parametrize("command", [UVICORN, DAPHNE], ids=["uvicorn", "daphne"])
def test_50_sockets_on_4_connections(command: list[str]) -> None:
    pytest.importorskip("daphne" if command is DAPHNE else "uvicorn")
    ways = ["database_sync_to_async", "database_sync_to_async, one thread", "sync_to_async"]
    with serving(*command, max_size=4) as server:

        async def talk() -> None:
            async with AsyncExitStack() as stack:
                sockets = [
                    await stack.enter_async_context(
                        client.connect(f"ws://127.0.0.1:{server.port}/{path}", open_timeout=30)
                    )
                    for path in ["async", "sync"]
                    for _ in range(SOCKETS // 2)
                ]
                for way in ways:
                    await asyncio.gather(*(socket.send(way) for socket in sockets))
                    pids = await asyncio.gather(*(socket.recv() for socket in sockets))
                    assert len(set(pids)) <= 4
                    # All are open, and none of them holds a connection.
                    (pool,) = (await asyncio.to_thread(server.pools)).values()
                    assert pool["in_use"] == 0
                    assert pool["size"] <= 4
                    assert pool["returns"] >= SOCKETS

        asyncio.run(talk())
        assert server.sessions() == 4
