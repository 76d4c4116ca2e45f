"""Opens pools before the first request; how one opens is in `pooling/`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from django.db import connections

from .pooling import registry
from .pooling.pool import Pool
from .pooling.process import gevent_order

logger = logging.getLogger(__name__)


def prewarm() -> None:
    """Open `min_size` connections in each pool whose `prewarm` option asks for it.

    The app calls this when Django is ready, and again in each forked child. Call it yourself
    where neither happens, for example in gunicorn's `post_worker_init` if the app isn't in
    INSTALLED_APPS. With `"prewarm": "wait"` it returns when the connections are open, and
    raises the server's error if they can't be. A forked child doesn't wait.
    """
    try:
        _open_pools(may_wait=True)
    finally:
        # Registered last: in a child, all that pools need must first drop the parent's things.
        registry.on_fork(_prewarm_in_child)


def _open_pools(*, may_wait: bool) -> None:
    for alias in connections:
        connection = connections[alias]
        pool = getattr(connection, "pool", None)
        if isinstance(pool, Pool) and pool.config.prewarm:
            with connection.wrap_database_errors:
                pool.open(wait=may_wait and pool.config.prewarm == "wait")


def prewarm_if_serving() -> None:
    """Prewarm, unless this process runs a management command: those should start quickly."""
    script = Path(sys.argv[0])
    # `python -m django` runs .../django/__main__.py; servers have a __main__.py of their own.
    name = script.parent.name if script.name == "__main__.py" else script.name
    if name not in ("manage.py", "django-admin", "django"):
        prewarm()


def _prewarm_in_child() -> None:
    # A server that preloads the application (gunicorn --preload, uWSGI, Celery) was ready in the
    # parent, and its workers are the children. Never waits: a fork must not hang.
    if gevent_order.is_to_come():
        return  # the first request raises the error that says so
    try:
        _open_pools(may_wait=False)
    except Exception:  # a fork hook can't raise
        logger.exception("Prewarming failed in a forked child; the first request will retry")
