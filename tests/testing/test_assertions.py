"""The assertions, in the tests of a site, which a real pytest runs.

Also of `watch.py`, `as_if.py`, `holding.py` and `calls.py`.
"""

from __future__ import annotations

import re

import pytest

from tests.support.shop import SITE, RunPytest, wrong

Ran = tuple[dict[str, str], str]


@pytest.fixture(scope="module")
def of_pytest(run_pytest: RunPytest) -> Ran:
    return run_pytest("cases.py")


@pytest.fixture(scope="module")
def of_unittest(run_pytest: RunPytest) -> Ran:
    return run_pytest("cases_unittest.py")


def test_with_and_without_a_transaction_around_the_test(of_pytest: Ran) -> None:
    outcomes, out = of_pytest
    assert sum("[in_transaction" in name for name in outcomes) * 2 == len(outcomes) > 80, out
    assert wrong(outcomes) == {}, out


def test_with_djangos_test_cases(of_unittest: Ran) -> None:
    outcomes, out = of_unittest
    assert len(outcomes) == 17, out
    assert wrong(outcomes) == {}, out


def failure(out: str, test: str) -> str:
    """Return what a test that failed says, with places as they are in the site."""
    _, _, told = out.partition(f"_ {test} _")
    return "\n".join(re.findall(r"^E +(.*)$", re.split(r"\n_{3,} ", told)[0], re.M)).replace(
        f"{SITE}/", ""
    )


def line(file: str, text: str) -> int:
    """Return the number of the first line of a file of the site that has that text."""
    lines = (SITE / file).read_text().splitlines()
    return next(i for i, each in enumerate(lines, start=1) if text in each)


def test_a_failure_says_where_it_was_borrowed_held_and_called(of_pytest: Ran) -> None:
    told = failure(of_pytest[1], "test_a_query_before_a_call_fails[without]")
    assert re.sub(r"127.0.0.1:\d+", "127.0.0.1:80", told) == (
        "AssertionError: A connection is held during an outgoing call:\n"
        f"127.0.0.1:80 is called at shop/payments.py:{line('shop/payments.py', 'request(')} in ask\n"
        "'default' is held by return_at='request', to the end of the request, borrowed at "
        f"shop/views.py:{line('shop/views.py', 'Order.objects.count')} in query_then_charge"
    )


def test_the_same_in_a_transaction_of_the_test(of_pytest: Ran) -> None:
    name = "test_a_query_before_a_call_fails[{}]"
    told, as_if = (failure(of_pytest[1], name.format(m)) for m in ("without", "in_transaction"))
    assert (
        as_if == f"{told}\nThat is how it would be without the transaction that the test runs in."
    )


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("test_a_call_in_a_transaction_fails[without-transaction]", "a transaction"),
        ("test_a_call_with_an_open_cursor_fails[in_transaction]", "an open cursor"),
        ("test_a_call_with_an_open_cursor_fails[without]", "an open cursor"),
        ("test_a_call_after_a_set_fails[in_transaction]", "session state (SET)"),
        ("test_a_call_after_a_set_fails[without]", "session state (SET)"),
    ],
)
def test_why_it_is_held(of_pytest: Ran, test: str, why: str) -> None:
    assert f"'default' is held by {why}, borrowed at " in failure(of_pytest[1], test)


def test_a_function_that_counts_as_a_call_is_told_by_its_name(of_unittest: Ran) -> None:
    """And once, though it talks to a service as well."""
    told = failure(of_unittest[1], "WithoutTransaction.test_calls_fails")
    assert told.startswith("AssertionError: A connection is held during an outgoing call:")
    assert "shop.payments.charge is called at cases_unittest.py:" in told


def test_each_borrow_is_listed(of_pytest: Ran) -> None:
    told = failure(of_pytest[1], "test_two_transactions_fails[in_transaction]")
    first, second = (line("shop/views.py", f'text="{n}")\n'.strip()) for n in ("one", "two"))
    assert first < second
    assert "2 borrows of 'default', at most 1 expected:\n1. at shop/views.py:" in told
    assert told.count(" in two_transactions") == 2


def test_what_changed_a_session_and_where(of_pytest: Ran) -> None:
    for mode in ("without", "in_transaction"):
        told = failure(of_pytest[1], f"test_session_state_fails[{mode}]")
        where = f"shop/views.py:{line('shop/views.py', 'SET work_mem')} in set_parameter"
        assert told == f"AssertionError: State is left in a session:\n'default': SET, at {where}"


def test_a_marker_fails_in_the_same_words_alone(of_pytest: Ran) -> None:
    _, _, told = of_pytest[1].partition("_ test_marked_calls_fails[without] _")
    told = re.split(r"\n_{3,} ", told)[0].partition("\n")[2]
    assert told.startswith(
        "A connection is held during an outgoing call:\n  shop.payments.charge is "
    )
    assert told.count("is called at") == 1
    # The view's, though a transaction around it has borrowed.
    assert told.rstrip().endswith(" in charge_in_transaction")
