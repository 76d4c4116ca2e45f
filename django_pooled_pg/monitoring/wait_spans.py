"""OpenTelemetry's spans for waits for a connection; each is made when its wait is over."""

from __future__ import annotations

from functools import partial
from time import time_ns
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from ..pooling import waits
from ..pooling.waits import Wait

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

NAME = "wait for connection"
_HOLDER = "pooled_pg.held_longest."


def trace_waits(tracer_provider: TracerProvider | None = None, *, threshold: float = 0.001) -> None:
    """Make a span for each wait for a connection that takes `threshold` seconds or more.

    Its parent is the span that is current when somebody borrows. Without `tracer_provider`, the
    global one is used, whether it is set before or after. One call before a fork is enough for all
    children; the last call counts. Borrowers that find an idle connection pay nothing. Raises
    `ImproperlyConfigured` if OpenTelemetry is not installed, and `ValueError` for a negative
    threshold.
    """
    try:
        from opentelemetry import trace
    except ImportError as ex:
        raise ImproperlyConfigured(
            "OpenTelemetry is not installed: pip install 'django-pooled-pg[opentelemetry]'."
        ) from ex
    if not threshold >= 0:
        raise ValueError(f"threshold is a number of seconds, 0 or more, not {threshold!r}.")
    tracer = trace.get_tracer("django_pooled_pg", tracer_provider=tracer_provider)
    waits.on_wait = partial(_make_span, tracer, threshold)


def _make_span(tracer: Tracer, threshold: float, wait: Wait) -> None:
    if wait.seconds < threshold:
        return
    from opentelemetry.trace import Status, StatusCode

    ended = time_ns()
    attributes: dict[str, str | float] = {
        "db.system.name": "postgresql",
        "db.client.connection.pool.name": wait.pool_name,
        "django.db.alias": wait.alias,
    }
    if (holder := wait.holder) is not None:
        attributes[f"{_HOLDER}thread"] = holder.thread
        attributes[f"{_HOLDER}seconds"] = round(holder.seconds, 6)
        attributes[f"{_HOLDER}place"] = holder.place
    if (error := wait.error) is not None:
        attributes["error.type"] = f"{type(error).__module__}.{type(error).__qualname__}"
    span = tracer.start_span(
        NAME, attributes=attributes, start_time=ended - int(wait.seconds * 1_000_000_000)
    )
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end(ended)
