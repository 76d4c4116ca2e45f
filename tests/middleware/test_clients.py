"""How servers reveal whether the client of a request has gone."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest

from django_pooled_pg.middleware import clients


def request_with(**environ: Any) -> HttpRequest:
    request = HttpRequest()
    request.environ = environ  # type: ignore[attr-defined]
    return request


def test_a_server_that_is_not_known_tells_nothing() -> None:
    assert clients.look_for(HttpRequest()) is None
    assert clients.look_for(request_with(SERVER_SOFTWARE="some")) is None
    # uWSGI's module is there in its own processes only, and not all versions can say.
    assert clients.look_for(request_with(**{"uwsgi.version": b"2.0"})) is None


def test_a_socket_that_the_server_has_closed_is_no_client() -> None:
    ours, theirs = socket.socketpair()
    look = clients.look_for(request_with(**{"gunicorn.socket": ours}))
    assert look is not None
    assert not look()
    ours.close()
    assert not look()
    theirs.close()
    assert not look()


def test_uwsgis_number_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    uwsgi = SimpleNamespace(connection_fd=ours.fileno)
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    with closing(ours):
        look = clients.look_for(request_with(**{"uwsgi.version": b"2.0"}))
        assert look is not None
        assert not look()
        theirs.close()
        assert look()
    uwsgi.connection_fd = lambda: -1
    assert clients.look_for(request_with(**{"uwsgi.version": b"2.0"})) is None


def test_waitress_tells_only_if_it_looks_ahead() -> None:
    class Channel:
        def __init__(self, lookahead: int) -> None:
            self.adj = SimpleNamespace(channel_request_lookahead=lookahead)

        def check_client_disconnected(self) -> bool:
            return True

    def look(lookahead: int) -> Any:
        told = Channel(lookahead).check_client_disconnected
        return clients.look_for(request_with(**{"waitress.client_disconnected": told}))

    assert look(0) is None
    assert look(1)()
    assert clients.look_for(request_with(**{"waitress.client_disconnected": lambda: True}))
