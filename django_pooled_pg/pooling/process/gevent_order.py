"""Notices that gevent patches this process after the package was imported."""

from __future__ import annotations

import sys

from django.core.exceptions import ImproperlyConfigured


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


_was_patched = _is_patched()


def refuse(pool_name: str) -> None:
    """Raise `ImproperlyConfigured` if gevent patched too late.

    What was made before is meant for threads: Django's connections, which greenlets would then
    share; psycopg's way to wait; our queue, where one greenlet would block all others forever.
    """
    if _is_patched() and not _was_patched:
        raise ImproperlyConfigured(
            f"Pool {pool_name!r}: gevent patched this process after Django had been loaded, so its "
            "greenlets would share one connection, and wait for each other forever. Call "
            "gevent.monkey.patch_all() before anything else is imported; for gunicorn --preload, "
            "in gunicorn.conf.py."
        )


def is_to_come() -> bool:
    """Tell whether gunicorn's worker will patch this process but hasn't yet."""
    return "gunicorn.workers.ggevent" in sys.modules and not _is_patched()
