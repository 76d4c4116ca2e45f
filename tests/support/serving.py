"""The wrappers that a test site's views use, from whatever thread serves them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from django_pooled_pg.base import DatabaseWrapper


def give_wrappers(
    site: SimpleNamespace, make_wrapper: Callable[..., DatabaseWrapper], books: str, other: str
) -> None:
    """Set `.wrapper` and `.other`, with these aliases, and `.busy`, whose pool is exhausted."""
    options = {"max_size": 1, "timeout": 1}
    holder = make_wrapper(pool=options, alias="busy")
    holder.ensure_connection()
    site.wrapper = make_wrapper(pool={"return_at": "transaction"}, alias=books)
    site.other = make_wrapper(alias=other)
    site.busy = make_wrapper(pool=options, alias="busy")
    for wrapper in (site.wrapper, site.other, site.busy):
        wrapper.inc_thread_sharing()
