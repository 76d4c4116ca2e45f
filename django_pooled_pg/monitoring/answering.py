"""Answers one client of the endpoint: reads its request, and replies."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from .control import WrongRequest, control
from .snapshot import process_snapshot
from .wire import MAX_ANSWER_BYTES, bounded, set_deadline, stranger

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4096

# By the request's name; its other members are the arguments.
_REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "snapshot": process_snapshot,
    "control": control,
}


def converse(client: socket.socket, seconds: float) -> None:
    """Answer one request; `seconds` limits both reading it and sending the answer.

    Raises `OSError`, of which `TimeoutError` is one.
    """
    deadline = monotonic() + seconds
    if (uid := stranger(client)) is not None:
        logger.warning("User %d tried to ask the poolstats endpoint, and got no answer", uid)
        return
    request = b""
    while b"\n" not in request and len(request) <= MAX_REQUEST_BYTES:
        set_deadline(client, deadline)
        received = client.recv(MAX_REQUEST_BYTES + 1 - len(request))
        if not received:
            return
        request += received
    answer = _line(_answer(request))
    if len(answer) > MAX_ANSWER_BYTES:
        answer = _line(_error(f"its answer would have {len(answer)} bytes"))
    # A new deadline: what was asked for may have taken some time.
    set_deadline(client, monotonic() + seconds)
    client.sendall(answer)


def _line(answer: dict[str, Any]) -> bytes:
    # Not escaped: in UTF-8, most scripts take half the bytes.
    text = json.dumps(bounded(answer), separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def _answer(request: bytes) -> dict[str, Any]:
    if len(request) > MAX_REQUEST_BYTES:
        return _error(f"The request is longer than {MAX_REQUEST_BYTES} bytes.")
    try:
        arguments = json.loads(request)
        name = arguments.pop("request")
        ask = _REQUESTS[name]
    except (ValueError, RecursionError):
        return _error("The request is not JSON.")
    except (KeyError, TypeError, AttributeError):
        return _error(f"The request must be one of: {', '.join(_REQUESTS)}.")
    try:
        return {"ok": True, "result": ask(**arguments)}
    except WrongRequest as ex:
        return _error(str(ex))
    except Exception as ex:  # reported to whoever asked; the endpoint lives on
        logger.exception("The poolstats endpoint could not answer %r", name)
        return _error(f"{type(ex).__name__} in the process that was asked")


def _error(message: str) -> dict[str, Any]:
    return {"ok": False, "error": message}
