"""When a connection goes back inside a request, and after it."""

from __future__ import annotations

from django.db import transaction

from django_pooled_pg.base import DatabaseWrapper
from tests.return_at.common import (
    MakeKnown,
    MakeWrapper,
    held,
    in_thread,
    request,
    statistics,
)
from tests.support.queries import backend_pid


def test_inside_a_request_it_stays_to_the_end(make_known: MakeKnown) -> None:
    wrapper = make_known()
    with request():
        pid = backend_pid(wrapper)
        assert held(wrapper) == 1
        with transaction.atomic(using=wrapper.alias):
            assert backend_pid(wrapper) == pid
        assert held(wrapper) == 1
    assert held(wrapper) == 0
    assert statistics(wrapper).borrows == 1


def test_inside_a_request_at_transaction_it_goes_back_with_the_cursor(
    make_known: MakeKnown,
) -> None:
    wrapper = make_known(return_at="transaction")
    with request():
        backend_pid(wrapper)
        assert held(wrapper) == 0
        backend_pid(wrapper)
    assert statistics(wrapper).borrows == 2


def test_outside_a_request_it_goes_back_with_the_cursor(
    make_known: MakeKnown,
) -> None:
    wrapper = make_known()
    backend_pid(wrapper)
    assert held(wrapper) == 0
    assert wrapper.connection is None


def test_after_a_request_it_is_outside_again(make_known: MakeKnown) -> None:
    wrapper = make_known()
    with request():
        backend_pid(wrapper)
    backend_pid(wrapper)
    assert held(wrapper) == 0


def test_a_thread_that_a_request_starts_is_not_in_it(
    make_known: MakeKnown, make_wrapper: MakeWrapper
) -> None:
    wrapper = make_known()
    seen: list[int] = []

    def work() -> None:
        of_thread = make_wrapper(pool=wrapper.settings_dict["OPTIONS"]["pool"], alias=wrapper.alias)
        backend_pid(of_thread)
        seen.append(held(of_thread))

    with request():
        in_thread(work)
    assert seen == [0]


def test_it_is_the_same_session_again(wrapper: DatabaseWrapper) -> None:
    assert len({backend_pid(wrapper) for _ in range(5)}) == 1
    assert statistics(wrapper).connects == 1
    assert statistics(wrapper).borrows == 5
