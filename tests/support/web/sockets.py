"""The ASGI application with websockets, by Channels; each message is a question to the database."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.db import connection
from django.urls import path

MESSAGE_SECONDS = 0.02


def ask() -> str:
    """Ask the database; return which session answered."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(%s)", [MESSAGE_SECONDS])
        return str(cursor.fetchone()[0])


class AsyncAsker(AsyncWebsocketConsumer):
    """Asks in the way that the path names."""

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        wrap = {
            "database_sync_to_async": database_sync_to_async(ask, thread_sensitive=False),
            "database_sync_to_async, one thread": database_sync_to_async(ask),
            "sync_to_async": sync_to_async(ask, thread_sensitive=False),
        }
        await self.send(await wrap[text_data]())


class Asker(WebsocketConsumer):
    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        self.send(ask())


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [path("async", AsyncAsker.as_asgi()), path("sync", Asker.as_asgi())]
        ),
    }
)
