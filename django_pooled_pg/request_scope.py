"""Tracks whether this thread works on a request, and who notes its borrows.

Django announces a request, and its end, in the thread that uses the database for it, under ASGI
as well: https://docs.djangoproject.com/en/stable/ref/signals/#request-response-signals
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.core.signals import request_finished, request_started

from .pooling.process.borrowers import Borrower, this_thread

if TYPE_CHECKING:
    from .pooling.lease import HolderRef, Lease
    from .pooling.pool import Pool

borrow: Callable[[Pool, HolderRef, Borrower], Lease] | None = None
"""Called in place of `Pool.borrow()` once somebody keeps a record of a request in this process
(`request_record.py`, which is slow to import)."""

# Django's test client may be called during a request: its requests end, and the outer one goes on.
# Recognized by name: a site that serves doesn't import it.
_TEST_CLIENT = "django.test.client"


def _begin(sender: Any = None, **kwargs: Any) -> None:
    who = this_thread.borrower
    if who.in_request and _is_test_client(sender):
        who.inner_requests += 1
    else:
        who.in_request, who.inner_requests = True, 0


def _end(sender: Any = None, **kwargs: Any) -> None:
    who = this_thread.borrower
    # The test client's responses don't say whose they are.
    if who.inner_requests and (sender is None or _is_test_client(sender)):
        who.inner_requests -= 1
    else:
        who.in_request, who.inner_requests = False, 0


def leave(who: Borrower) -> None:
    """Note that `who` no longer works on a request."""
    who.in_request, who.inner_requests = False, 0


def _is_test_client(sender: Any) -> bool:
    return getattr(sender, "__module__", None) == _TEST_CLIENT


def listen() -> None:
    """Note requests from now on."""
    request_started.connect(_begin, weak=False, dispatch_uid="django_pooled_pg.request_scope")
    request_finished.connect(_end, weak=False, dispatch_uid="django_pooled_pg.request_scope")
