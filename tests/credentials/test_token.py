"""Tokens are kept and renewed; the providers themselves are in `tests/packages/test_credentials.py`."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from django_pooled_pg.credentials import token
from django_pooled_pg.credentials.token import Ask, Token, Tokens, need, tokens_of
from django_pooled_pg.pooling.untold import Untold
from tests.conftest import MakeWrapper
from tests.support.processes import FORK, run_script
from tests.support.waiting import wait_until

LIFE = 900.0


class Provider:
    """Numbers its tokens; may be told to fail, or to let who asks wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.connected = 0
        self.error: BaseException | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def connect(self) -> Ask:
        self.connected += 1
        return self

    def __call__(self) -> Token:
        self.asked += 1
        number = self.asked
        assert self.may_answer.wait(20)
        if self.error is not None:
            raise self.error
        return Token(f"s3cret-{number}", LIFE)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(token, "monotonic", clock)
    return clock


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.may_answer.set()


@pytest.fixture
def tokens(provider: Provider, clock: Clock) -> Tokens:
    return Tokens("test", provider.connect)


def renewed(tokens: Tokens) -> bool:
    """Whether no renewal is going on; what is waited for."""
    return tokens._renewal is not None and not tokens._renewal.is_alive()


def test_one_token_serves_all_who_connect_while_it_is_good(
    tokens: Tokens, provider: Provider, clock: Clock
) -> None:
    assert {tokens()["password"] for _ in range(5)} == {"s3cret-1"}
    clock.now += LIFE - 11
    assert tokens() == {"password": "s3cret-1"}
    clock.now += 2
    assert tokens() == {"password": "s3cret-2"}, "in its last seconds it is of no use"
    assert provider.connected == 1


def test_those_who_need_the_first_token_wait_for_one_answer(
    tokens: Tokens, provider: Provider
) -> None:
    provider.may_answer.clear()
    with ThreadPoolExecutor(8) as executor:
        found = [executor.submit(tokens) for _ in range(8)]
        wait_until(lambda: provider.asked == 1)
        provider.may_answer.set()
        assert [each.result()["password"] for each in found] == ["s3cret-1"] * 8
    assert provider.asked == 1


def test_nobody_waits_while_a_token_is_renewed(
    tokens: Tokens, provider: Provider, clock: Clock
) -> None:
    tokens()
    tokens.renew_if_due()
    assert tokens._renewal is None, "it isn't time to"
    provider.may_answer.clear()
    clock.now += LIFE / 2
    tokens.renew_if_due()
    wait_until(lambda: provider.asked == 2)
    assert tokens() == {"password": "s3cret-1"}
    tokens.renew_if_due()
    assert provider.asked == 2, "one at a time"
    provider.may_answer.set()
    wait_until(lambda: tokens() == {"password": "s3cret-2"})


def test_processes_that_start_together_do_not_ask_together(clock: Clock) -> None:
    due = []
    for _ in range(20):
        tokens = Tokens("test", Provider().connect)
        tokens()
        due.append(tokens._renew_at - clock.now)
    assert len(set(due)) > 10
    assert LIFE * 0.4 <= min(due) < max(due) <= LIFE * 0.5


def test_a_provider_that_fails_is_told_and_the_old_token_is_used(
    tokens: Tokens, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tokens()
    provider.error = PermissionError("s3cret-of-the-vault")
    clock.now += LIFE / 2
    tokens.renew_if_due()
    wait_until(lambda: renewed(tokens))
    assert tokens() == {"password": "s3cret-1"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (
        "The token of test could not be renewed: 'credentials' (test) raised PermissionError"
        in (record.getMessage())
    )
    assert "The old one is valid for another 440 s" in record.getMessage()
    assert "s3cret" not in caplog.text
    clock.now += LIFE / 2
    with pytest.raises(Untold, match=r"'credentials' \(test\) raised PermissionError") as caught:
        tokens()
    assert "s3cret" not in str(caught.value)


def test_a_provider_that_fails_is_asked_again_after_ever_longer_pauses(
    tokens: Tokens, provider: Provider, clock: Clock
) -> None:
    tokens()
    provider.error = SystemExit(3)  # some libraries end the program
    clock.now += LIFE / 2
    pauses = []
    for _ in range(6):
        tokens.renew_if_due()
        wait_until(lambda: renewed(tokens))
        pauses.append(tokens._renew_at - clock.now)
        clock.now = tokens._renew_at
    assert 4 <= pauses[0] <= 6
    assert 48 <= pauses[5] <= 72
    provider.error = None
    tokens.renew_if_due()
    wait_until(lambda: renewed(tokens))
    assert tokens() == {"password": "s3cret-8"}
    assert provider.connected > 2, "what asks it is made anew: a key of its may have been replaced"
    assert tokens._renew_at - clock.now > LIFE / 3


def test_the_text_of_an_error_goes_to_debug_alone(
    tokens: Tokens, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.error = PermissionError("sealed")
    with pytest.raises(Untold):
        tokens()
    assert [r.levelname for r in caplog.records] == ["DEBUG"]
    assert "sealed" in caplog.text


def test_pools_with_the_same_arguments_share_a_token(provider: Provider) -> None:
    one = tokens_of("test", ("a", None), provider.connect)
    assert tokens_of("test", ("a", None), provider.connect) is one
    assert tokens_of("test", ("b", None), provider.connect) is not one
    assert tokens_of("other", ("a", None), provider.connect) is not one


def test_no_object_shows_its_token(tokens: Tokens) -> None:
    tokens()
    found = [x for x in gc.get_objects() if type(x).__module__ == token.__name__]
    assert tokens in found
    assert not [x for x in found if "s3cret" in repr(x)]
    assert not [x for x in gc.get_referents(tokens) if "s3cret" in repr(x)]


def test_a_forked_child_asks_for_itself() -> None:
    script = (
        FORK
        + """
import threading
from django_pooled_pg.credentials.token import Token, tokens_of
asked = []
def connect():
    def ask():
        asked.append(os.getpid())
        return Token(str(os.getpid()), 900)
    return ask
tokens = tokens_of("test", (), connect)
assert tokens() == {"password": str(os.getpid())}
taken, done = threading.Event(), threading.Event()
def hold():
    with tokens._lock:
        taken.set()
        done.wait()
threading.Thread(target=hold).start()
taken.wait()
def child():
    assert tokens() == {"password": str(os.getpid())}
print(fork(child))
done.set()
"""
    )
    assert run_script(script, {}, INSTALLED_APPS=[]).strip() == "0"


def test_a_pool_renews_its_token(
    make_wrapper: MakeWrapper, monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    """Where it only lends what it has, and so asks for none."""
    monkeypatch.setattr(f"{__name__}.LIFE", 2.0)
    shared = tokens_of("test", (), lambda: lambda: Token("", 0.0))
    made: list[Tokens] = []

    def ready_made(database: Any) -> Tokens:
        made.append(Tokens("test", provider.connect))
        return made[-1]

    monkeypatch.setattr("django_pooled_pg.credentials.azure.provider", ready_made)
    wrapper = make_wrapper(pool={"credentials": "django_pooled_pg.credentials.azure"})
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert provider.asked == 1
    wait_until(lambda: provider.asked >= 3, within=20)
    assert shared is not made[0]
    wrapper.close_pool()


@pytest.mark.parametrize("library", ["no_such_library", "no.such.library", "json.no_such"])
def test_what_is_missing_is_named_with_the_command_to_run(library: str) -> None:
    with pytest.raises(ValueError, match=r'run: pip install "django-pooled-pg\[extra\]"'):
        need(library, "extra")
    need("json.decoder", "extra")
