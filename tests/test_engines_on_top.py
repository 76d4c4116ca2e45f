"""Engines of packages that build on ours and remember what they did to their session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_pooled_pg import base
from tests.support.queries import backend_pid


class Remembering(base.DatabaseWrapper):
    """As django-tenants does it: prepares a session once, and forgets it in `close()`."""

    prepared: int | None = None

    def close(self) -> None:
        self.prepared = None
        super().close()

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)
        if self.prepared is None:
            self.prepared = self.connection.info.backend_pid
        return cursor


@pytest.fixture
def wrapper(database: dict[str, Any], django_db_blocker: Any) -> Iterator[Remembering]:
    settings = {**database, "OPTIONS": {"pool": {"return_at": "transaction", "max_size": 2}}}
    wrapper = Remembering(settings, "remembering")
    with django_db_blocker.unblock():
        yield wrapper
        wrapper.close()
        wrapper.close_pool()


@pytest.mark.parametrize(
    "lose",
    [
        lambda wrapper: None,  # it goes back early
        lambda wrapper: wrapper.close_if_unusable_or_obsolete(),
        lambda wrapper: wrapper.lease_lost(by_fork=True),
        lambda wrapper: wrapper.close(),
    ],
    ids=["early", "end of a request", "fork", "close"],
)
def test_it_prepares_the_session_that_it_gets_next(
    wrapper: Remembering, lose: Callable[[Remembering], None]
) -> None:
    first = backend_pid(wrapper)
    lose(wrapper)
    assert wrapper.pool is not None
    other = wrapper.pool.borrow()  # the session that was the last to come back
    try:
        second = backend_pid(wrapper)
        assert second != first
        assert wrapper.prepared == second
    finally:
        wrapper.pool.give_back(other)


def test_its_close_is_called_at_the_end_of_a_request(wrapper: Remembering) -> None:
    wrapper.ensure_connection()
    backend_pid(wrapper)
    wrapper.close_if_unusable_or_obsolete()
    assert wrapper.connection is None
    assert wrapper.prepared is None
