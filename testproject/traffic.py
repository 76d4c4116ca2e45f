"""A small HTTP load generator for servers on this machine; knows nothing of the site."""

from __future__ import annotations

import http.client
import ipaddress
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MESSAGES_KEPT = 5
REQUEST_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of request; `weight` is its share, relative to the others."""

    path: str
    weight: float = 1.0
    method: str = "GET"
    form: str | None = None


@dataclass(slots=True, kw_only=True)
class Result:
    """The outcome of the traffic. Times are in seconds; an error is a failure or a status 5xx."""

    duration: float = 0.0
    requests: int = 0
    errors: int = 0
    messages: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list, repr=False)

    @property
    def rate(self) -> float:
        return self.requests / self.duration if self.duration else 0.0

    @property
    def p50(self) -> float:
        return percentile(self.latencies, 0.50)

    @property
    def p99(self) -> float:
        return percentile(self.latencies, 0.99)


Progress = Callable[[float, Result], None]


def run(
    host: str,
    port: int,
    targets: Sequence[Target],
    *,
    duration: float,
    concurrency: int = 8,
    requests_per_connection: int = 25,
    progress: Progress | None = None,
    interval: float = 0.2,
) -> Result:
    """Send requests for `duration` seconds from `concurrency` threads, each on its connection.

    Connections are renewed now and then, so that a server with several processes can spread them.
    This thread calls `progress` every `interval` seconds, with the fraction of the time that is
    over and the figures so far. Raises `ValueError` for a host other than this one.
    """
    if not _is_loopback(host):
        raise ValueError(f"Load is only sent to this machine, not to {host!r}.")
    traffic = _Traffic(host, port, targets, requests_per_connection)
    threads = [threading.Thread(target=traffic.work, daemon=True) for _ in range(concurrency)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        while (elapsed := time.monotonic() - started) < duration:
            if progress is not None:
                progress(elapsed / duration, traffic.result)
            time.sleep(max(0.0, min(interval, started + duration - time.monotonic())))
    finally:
        traffic.stopping.set()
        for thread in threads:
            thread.join(REQUEST_TIMEOUT)
    traffic.result.duration = time.monotonic() - started
    if progress is not None:
        progress(1.0, traffic.result)
    return traffic.result


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the least value that `fraction` of all values don't exceed; 0 if there are none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


class _Traffic:
    def __init__(
        self, host: str, port: int, targets: Sequence[Target], requests_per_connection: int
    ) -> None:
        self._host = host
        self._port = port
        self._targets = targets
        self._requests_per_connection = requests_per_connection
        self._weights = [target.weight for target in targets]
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.result = Result()

    def work(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=REQUEST_TIMEOUT)
        dice = random.Random()
        for number in itertools.count():
            if self.stopping.is_set():
                break
            if number % self._requests_per_connection == 0:
                connection.close()  # the next request opens it again
            (target,) = dice.choices(self._targets, self._weights)
            started = time.monotonic()
            error = None
            try:
                if (status := self._send(connection, target)) >= 500:
                    error = f"status {status}"
            except (OSError, http.client.HTTPException) as ex:
                connection.close()
                error = f"{type(ex).__name__}: {ex}"
            self._record(target, time.monotonic() - started, error)
            if error is not None:
                # Otherwise a server that is down would be asked thousands of times a second.
                self.stopping.wait(0.05)
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, target: Target) -> int:
        headers = {}
        if target.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(target.method, target.path, body=target.form, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status

    def _record(self, target: Target, latency: float, error: str | None) -> None:
        with self._lock:
            result = self.result
            result.requests += 1
            result.latencies.append(latency)
            if error is not None:
                result.errors += 1
                if len(result.messages) < MESSAGES_KEPT:
                    result.messages.append(f"{target.method} {target.path}: {error}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
