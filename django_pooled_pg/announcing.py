"""Tells receivers of Django's `connection_created` about new sessions.

It is sent for each session, not for each request. So a receiver that sets whom the request is for
would also set it for later requests. A warning tells sites that do so; `connection_borrowed` is
there for them.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import Signal
from psycopg.sql import Composable

from .pooling.process.borrowers import borrower
from .pooling.session.session import Session, renew
from .pooling.session.use import Use

logger = logging.getLogger(__name__)

connection_borrowed = Signal()
"""Sent at each borrow, when the connection is ready to be used: `sender` is the class of Django's
connection object, `connection` that object. What a receiver sets in the session lasts until the
connection goes back, and keeps it until the request ends (pins it). Costs nothing without
receivers."""

# A parameter of the application's own, such as app.user; PostgreSQL's have no dot.
# https://www.postgresql.org/docs/current/runtime-config-custom.html
# Compiled only when needed, which is rare.
_OWN_PARAMETER = r"""(?i)\bset(?:_config\s*\(\s*'|\s+(?:session\s+)?)("?\w+"?\."?\w+)"""
_NAME = r"\w+\.\w+"

_told = False


def announce(wrapper: BaseDatabaseWrapper, use: Use, session: Session) -> list[Any]:
    """Tell receivers about a new session; return those that were told."""
    # Not by `execute_wrapper()`, which would remove the last one: receivers install their own.
    wrapper.execute_wrappers.insert(0, _tell_if_of_a_request)
    try:
        connection_created.send(sender=wrapper.__class__, connection=wrapper)
    finally:
        # A receiver may have replaced this list, or emptied it.
        with suppress(ValueError):
            wrapper.execute_wrappers.remove(_tell_if_of_a_request)
    session.announced_to = receivers = connection_created.receivers.copy()
    # Not if a receiver has closed it, and perhaps gone on with another one.
    if wrapper.connection is use.raw:
        # What receivers set, they set on each session: no reset should undo it.
        renew(use.quick)
        use.forget_effect()
    return receivers


def _tell_if_of_a_request(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    global _told
    if not _told and borrower().in_request:
        name = _own_parameter(sql.as_string(None) if isinstance(sql, Composable) else sql, params)
        if name is not None:
            _told = True
            logger.warning(
                "A receiver of connection_created sets %s. With a pool it is called once for each "
                "server session, not for each request: if the value depends on the request, other "
                "requests get it, too. Connect the receiver to "
                "django_pooled_pg.connection_borrowed instead.",
                name,
            )
    return execute(sql, params, many, context)


def _own_parameter(sql: Any, params: Any) -> str | None:
    if not isinstance(sql, str):
        return None
    if (found := re.search(_OWN_PARAMETER, sql)) is not None:
        return found[1].replace('"', "")
    if re.search(r"\bset_config\b", sql, re.IGNORECASE) and isinstance(params, (list, tuple)):
        return next((p for p in params[:1] if isinstance(p, str) and re.fullmatch(_NAME, p)), None)
    return None
