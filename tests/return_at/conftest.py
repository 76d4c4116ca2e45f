"""Wrappers whose connections go back early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connections

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import MakeKnown, MakeWrapper


@pytest.fixture
def make_known(make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeKnown]:
    """Make wrappers that are among this thread's `connections`."""
    known = []

    def make(**pool: Any) -> DatabaseWrapper:
        wrapper = make_wrapper(pool={"max_size": 1, "timeout": 5, **pool})
        settings = {**wrapper.settings_dict, "ENGINE": "django_pooled_pg"}
        monkeypatch.setitem(connections.settings, wrapper.alias, settings)
        connections[wrapper.alias] = wrapper
        known.append(wrapper.alias)
        # An earlier test may have left a request open.
        request_finished.send(sender=None)
        return wrapper

    yield make
    for alias in known:
        del connections[alias]


@pytest.fixture(params=["outside a request", "inside, at transaction"])
def wrapper(request: pytest.FixtureRequest, make_known: MakeKnown) -> Iterator[DatabaseWrapper]:
    """One whose connection goes back early: outside a request without being told to."""
    if request.param == "outside a request":
        yield make_known()
    else:
        request_started.send(sender=None)
        yield make_known(return_at="transaction")
        request_finished.send(sender=None)
