"""Whether a socket's peer has hung up."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from django_pooled_pg.pooling.process.peers import has_hung_up
from tests.support.processes import ROOT

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_peer_that_is_there_has_not(pair: Pair) -> None:
    ours, theirs = pair
    assert not has_hung_up(ours.fileno())
    theirs.send(b"more")
    assert not has_hung_up(ours.fileno())


def test_one_that_has_closed_it_has_though_it_left_something_to_read(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"more")
    theirs.close()
    assert has_hung_up(ours.fileno())
    assert ours.recv(10) == b"more"


def test_one_that_sends_nothing_any_more_has(pair: Pair) -> None:
    ours, theirs = pair
    theirs.shutdown(socket.SHUT_WR)
    assert has_hung_up(ours.fileno())


def test_a_socket_that_is_closed_has_no_peer(pair: Pair) -> None:
    ours, _ = pair
    number = ours.fileno()
    ours.close()
    assert has_hung_up(number)


def test_gevents_poll_is_not_asked() -> None:
    """It knows of reading and writing only."""
    pytest.importorskip("gevent", reason="gevent isn't installed")
    script = """
from gevent import monkey
monkey.patch_all()
import socket
from django_pooled_pg.pooling.process.peers import has_hung_up
ours, theirs = socket.socketpair()
assert not has_hung_up(ours.fileno())
theirs.close()
assert has_hung_up(ours.fileno())
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
