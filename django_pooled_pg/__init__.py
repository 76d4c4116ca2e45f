"""A Django database backend that lends each request a PostgreSQL connection from a pool.

What is in `__all__` is public. Everything else in this package is private, whatever its name looks
like, except for the paths that settings use: docs/api.md lists both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import aio
    from .abandoned import cancel_if_abandoned, finish_if_abandoned
    from .announcing import connection_borrowed
    from .deadlines import deadline
    from .monitoring.client import collect
    from .monitoring.opentelemetry import instrument
    from .monitoring.prometheus import PROMETHEUS_CONTENT_TYPE, PooledPgCollector, exposition
    from .monitoring.readiness import readiness
    from .monitoring.report import ProcessReport
    from .monitoring.wait_spans import trace_waits
    from .pooling.counters import Durations
    from .pooling.errors import (
        DeadlineExceeded,
        ForkedInTransaction,
        PoolExhausted,
        RequestAbandoned,
    )
    from .pooling.pool import Pool
    from .pooling.statistics import PoolStatistics
    from .prewarming import prewarm
    from .request_record import Borrow, Record, Totals, recording
    from .returning import returning_connections, without_connection
    from .runtime_dir import RuntimeDirError
    from .testing.assertions import (
        PoolAssertions,
        max_borrows,
        no_connection_while_calling,
        no_session_state,
    )
    from .wrapper import PooledDatabaseMixin

__all__ = [
    "PROMETHEUS_CONTENT_TYPE",
    "Borrow",
    "DeadlineExceeded",
    "Durations",
    "ForkedInTransaction",
    "Pool",
    "PoolAssertions",
    "PoolExhausted",
    "PoolStatistics",
    "PooledDatabaseMixin",
    "PooledPgCollector",
    "ProcessReport",
    "Record",
    "RequestAbandoned",
    "RuntimeDirError",
    "Totals",
    "__version__",
    "aio",
    "cancel_if_abandoned",
    "collect",
    "connection_borrowed",
    "deadline",
    "exposition",
    "finish_if_abandoned",
    "instrument",
    "max_borrows",
    "no_connection_while_calling",
    "no_session_state",
    "prewarm",
    "readiness",
    "recording",
    "returning_connections",
    "trace_waits",
    "without_connection",
]

__version__ = "0.2.0"

# Where each name is defined: that module is imported when somebody asks for the name.
_HOMES = {
    "abandoned": "cancel_if_abandoned finish_if_abandoned",
    "aio": "aio",
    "announcing": "connection_borrowed",
    "deadlines": "deadline",
    "monitoring.client": "collect",
    "monitoring.opentelemetry": "instrument",
    "monitoring.prometheus": "PROMETHEUS_CONTENT_TYPE PooledPgCollector exposition",
    "monitoring.readiness": "readiness",
    "monitoring.report": "ProcessReport",
    "monitoring.wait_spans": "trace_waits",
    "pooling.counters": "Durations",
    "pooling.errors": "DeadlineExceeded ForkedInTransaction PoolExhausted RequestAbandoned",
    "pooling.pool": "Pool",
    "pooling.statistics": "PoolStatistics",
    "prewarming": "prewarm",
    "request_record": "Borrow Record Totals recording",
    "returning": "returning_connections without_connection",
    "runtime_dir": "RuntimeDirError",
    "testing.assertions": "PoolAssertions max_borrows no_connection_while_calling no_session_state",
    "wrapper": "PooledDatabaseMixin",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".driver", __name__)  # says what is missing
    home = import_module(f".{_HOME_OF[name]}", __name__)
    found = globals()[name] = home if name == _HOME_OF[name] else getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
