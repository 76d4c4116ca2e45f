"""Detects an installed psycopg_pool or psycopg that this package doesn't know.

Both are upgraded without asking us, and their private names may move in any release. That must
raise a clear error, not an AttributeError in the middle of a request. `base.py` and `null.py`, and
`session/` for psycopg's names, say what each is for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# The versions whose source was read; pyproject.toml says the same.
READ = {
    "psycopg_pool": "psycopg-pool>=3.3.3,<3.4",
    "psycopg": "psycopg>=3.2",
}

# Classes by module, with the parameters of their methods.
CLASSES: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "psycopg_pool.base": {
        "AttemptWithBackoff": {"__init__": ("timeout",), "update_delay": ("now",)},
    },
    "psycopg_pool.pool": {
        "ConnectionPool": {
            "_add_connection": ("attempt", "growing"),
            "_check_open_getconn": (),
            "_get_ready_connection": ("timeout",),
            "_maybe_grow_pool": (),
            "_start_initial_tasks": (),
            "_start_workers": (),
            "run_task": ("task",),
        },
        "AddConnection": {"__init__": ("pool", "attempt", "growing")},
        "MaintenanceTask": {"__init__": ("pool",), "run": (), "_run": ("pool",)},
        "ReturnConnection": {"__init__": ("pool", "conn", "from_getconn")},
        "Schedule": {"__init__": ("pool", "task", "delay")},
        "ShrinkPool": {"__init__": ("pool",)},
        "StopWorker": {"__init__": ("pool",)},
        "WaitingClient": {"wait": ("timeout",), "set": ("conn",), "fail": ("error",)},
    },
    "psycopg_pool.sched": {"Scheduler": {"enter": ("delay", "action")}},
    "psycopg_pool.null_pool": {
        "NullConnectionPool": {"_connect": ("timeout",), "_get_ready_connection": ("timeout",)},
    },
}
# Attributes of a pool that isn't open yet.
POOL = (
    "_closed",
    "_drained_at",
    "_growing",
    "_lock",
    "_max_size",
    "_min_size",
    "_nconns",
    "_nconns_min",
    "_opened",
    "_pool",
    "_pool_full_event",
    "_waiting",
    "_workers",
)
# Attributes of a new psycopg connection.
CONNECTION = (
    "_autocommit",
    "_begin_statement",
    "_deferrable",
    "_isolation_level",
    "_notice_handlers",
    "_notify_handlers",
    "_num_transactions",
    "_pipeline",
    "_prepared",
    "_read_only",
    "_tpc",
    "cursor_factory",
    "lock",
    "pgconn",
    "row_factory",
    "server_cursor_factory",
)


def check_classes() -> None:
    """Raise `ImproperlyConfigured` if a base class is missing; call it before subclassing."""
    for module, classes in CLASSES.items():
        for name in classes:
            _class(module, name)


def check_pool(pool: Any) -> None:
    """Raise `ImproperlyConfigured` if a name that a pool needs has moved."""
    for module, classes in CLASSES.items():
        for name, methods in classes.items():
            _check_methods(_class(module, name), methods)
    _check_attributes("psycopg_pool", "ConnectionPool", pool, POOL)


def check_connection(connection: Any) -> None:
    """Raise `ImproperlyConfigured` if a name that a session needs has moved."""
    _check_attributes("psycopg", "Connection", connection, CONNECTION)


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as ex:
        raise _moved("psycopg_pool", f"{module}.{name}") from ex


def _check_methods(cls: Any, methods: dict[str, tuple[str, ...]]) -> None:
    for name, wanted in methods.items():
        method = getattr(cls, name, None)
        if method is None or tuple(_parameters(method)) != wanted:
            raise _moved("psycopg_pool", f"{cls.__name__}.{name}({', '.join(wanted)})")


def _parameters(method: Any) -> Iterator[str]:
    parameters = iter(inspect.signature(method).parameters)
    next(parameters)  # self
    return parameters


def _check_attributes(package: str, of: str, found: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if not hasattr(found, name):
            raise _moved(package, f"{of}.{name}")


def _moved(package: str, name: str) -> ImproperlyConfigured:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "(of unknown version)"
    return ImproperlyConfigured(
        f"{package} {version} is installed, which doesn't have {name} as django_pooled_pg knows "
        f'it. Run: pip install "{READ[package]}", or upgrade django-pooled-pg.'
    )
