"""A Django database backend that lends each request a PostgreSQL connection from a pool."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .abandoned import cancel_if_abandoned, finish_if_abandoned
    from .announcing import connection_borrowed
    from .deadlines import deadline
    from .monitoring.wait_spans import trace_waits
    from .pooling.errors import DeadlineExceeded, PoolExhausted, RequestAbandoned
    from .prewarming import prewarm
    from .returning import returning_connections, without_connection
    from .testing import (
        PoolAssertions,
        max_borrows,
        no_connection_while_calling,
        no_session_state,
    )

__all__ = [
    "DeadlineExceeded",
    "PoolAssertions",
    "PoolExhausted",
    "RequestAbandoned",
    "__version__",
    "cancel_if_abandoned",
    "connection_borrowed",
    "deadline",
    "finish_if_abandoned",
    "max_borrows",
    "no_connection_while_calling",
    "no_session_state",
    "prewarm",
    "returning_connections",
    "trace_waits",
    "without_connection",
]

__version__ = "0.1.0"

# Where each name is; it is imported when somebody asks for it.
_HOMES = {
    "abandoned": ("cancel_if_abandoned", "finish_if_abandoned"),
    "announcing": ("connection_borrowed",),
    "deadlines": ("deadline",),
    "monitoring.wait_spans": ("trace_waits",),
    "pooling.errors": ("DeadlineExceeded", "PoolExhausted", "RequestAbandoned"),
    "prewarming": ("prewarm",),
    "returning": ("returning_connections", "without_connection"),
    "testing": (
        *("PoolAssertions", "max_borrows", "no_connection_while_calling", "no_session_state"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".driver", __name__)  # says what is missing
    found = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
