"""A service that isn't the site's: `charge` asks it over HTTP, by http.client alone."""

from __future__ import annotations

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = server.server_address[1]
url = f"http://127.0.0.1:{port}/"


def connection() -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port)


def ask(kept: http.client.HTTPConnection) -> None:
    kept.request("GET", "/")
    assert kept.getresponse().read() == b"ok"


def charge() -> None:
    client = connection()
    ask(client)
    client.close()


def talk_to_oneself() -> None:
    """As asyncio does, to wake its loop; a datagram, which nobody waits for; a server's answer."""
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert other.recv(1) == b"x"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(("127.0.0.1", port))
        datagrams.send(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.socket()
        # In a thread that nobody watches, as all clients of a server are.
        connecting = threading.Thread(target=client.connect, args=[listening.getsockname()])
        connecting.start()
        accepted, _ = listening.accept()
        connecting.join()
        with client, accepted:
            accepted.sendall(b"answer")
