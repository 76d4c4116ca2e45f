"""Keeps a token that expires for the whole process, and renews it before it ends.

Knows no provider and no pool. The process's housekeeping calls `renew_if_due()` each second.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import random
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from weakref import WeakValueDictionary

from ..pooling.process import fork
from ..pooling.process.locks import Lock
from ..pooling.untold import Untold, untold

logger = logging.getLogger(__name__)

# A token is renewed when this share of its time is over, at random: the processes of a site start
# together, but must not ask together. Providers with a cache of their own return the same token
# until its last minutes; then we ask again after half of what is left, and so on.
_RENEWED_AFTER = 0.4, 0.5
# Nobody gets a token in its last seconds, or the last tenth of its time: connecting takes some.
_TOO_LATE = 10.0
# Seconds until we ask a failed provider again: the first pause, and the longest.
_PAUSES = 5.0, 60.0

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A token, and for how many seconds it is valid."""

    text: str
    seconds: float


Ask = Callable[[], Token]


@dataclass(frozen=True, slots=True, repr=False)
class _Kept:
    text: str
    # By `time.monotonic()`.
    ends: float


class Tokens:
    """The token of one provider, for one set of arguments.

    `connect` returns the function that asks the provider. Each process that needs a token calls
    `connect`: the libraries' clients have sockets and locks, which a forked child must not share.
    """

    def __init__(self, name: str, connect: Callable[[], Ask]) -> None:
        self._name = name
        self._connect = connect
        self.start_anew()

    def start_anew(self) -> None:
        """Forget everything: for a new process or a forked child."""
        # Guards the writing of what follows. Held while the provider is asked: borrowers who have
        # no token wait for the one that is on its way.
        self._lock = Lock()
        self._ask: Ask | None = None
        self._kept: _Kept | None = None
        self._renew_at = math.inf
        self._failures = 0
        self._renewal: threading.Thread | None = None

    def __call__(self) -> dict[str, str]:
        """Return the password to connect with. Asks the provider only if no valid token is left.

        Raises `Untold` if that fails.
        """
        kept = self._kept
        if kept is None or kept.ends <= monotonic():
            kept = self._awaited()
        return {"password": kept.text}

    def _awaited(self) -> _Kept:
        with self._lock:
            kept = self._kept
            if kept is None or kept.ends <= monotonic():
                kept = self._asked_for()
            return kept

    def _asked_for(self) -> _Kept:
        """Ask the provider. Called with the lock held."""
        # We drop a client that fails: it may have read a key that has been replaced since.
        ask, self._ask = self._ask, None
        try:
            if ask is None:
                ask = self._connect()
            token = ask()
        except Untold:
            raise
        except Exception as ex:
            error = untold(f"'credentials' ({self._name})", ex)
        else:
            now = monotonic()
            self._ask = ask
            self._kept = _Kept(token.text, now + token.seconds - min(_TOO_LATE, token.seconds / 10))
            self._renew_at = now + max(1.0, token.seconds * _random.uniform(*_RENEWED_AFTER))
            self._failures = 0
            return self._kept
        # Raised here, so that it has no __context__.
        raise error

    def renew_if_due(self) -> None:
        """Start to renew the token in a thread of its own, if it is time to.

        Called by one thread at a time.
        """
        if monotonic() < self._renew_at:
            return
        if self._renewal is None or not self._renewal.is_alive():
            self._renewal = threading.Thread(
                target=self._renew, name="django_pooled_pg-token", daemon=True
            )
            try:
                self._renewal.start()
            except RuntimeError:  # no more threads at the moment; the next call tries again
                logger.debug("No thread to renew the token of %s", self._name, exc_info=True)

    def _renew(self) -> None:
        try:
            with self._lock:
                self._asked_for()
            return
        except Untold as ex:
            error = ex
        except BaseException as ex:  # some libraries raise SystemExit for a failure
            error = untold(f"'credentials' ({self._name})", ex)
        with self._lock:
            first, longest = _PAUSES
            pause = min(longest, first * 2**self._failures) * _random.uniform(0.8, 1.2)
            self._failures = min(self._failures + 1, 10)
            self._renew_at = monotonic() + pause
            left = self._kept.ends - monotonic() if self._kept is not None else 0.0
        logger.warning(
            "The token of %s could not be renewed: %s. The old one is valid for another %.0f s; "
            "next attempt in %.0f s",
            self._name,
            str(error).removesuffix("."),
            max(0.0, left),
            pause,
        )


# Of this process; pools with the same arguments share a token. Guarded by `_lock`.
_tokens: WeakValueDictionary[Hashable, Tokens] = WeakValueDictionary()
_lock = Lock()


def tokens_of(name: str, arguments: tuple[Hashable, ...], connect: Callable[[], Ask]) -> Tokens:
    """Return the tokens of a provider with these arguments; makes them if needed."""
    with _lock:
        found = _tokens.get((name, arguments))
        if found is None:
            found = _tokens[name, arguments] = Tokens(name, connect)
        return found


def need(library: str, extra: str) -> None:
    """Raise `ValueError`, with the command to run, if the provider's library isn't installed."""
    try:
        found = importlib.util.find_spec(library)
    except ModuleNotFoundError:  # the package around it is missing
        found = None
    if found is None:
        raise ValueError(
            f'needs {library}, which isn\'t installed; run: pip install "django-pooled-pg[{extra}]"'
        )


def _forget_in_child() -> None:
    # A thread that doesn't exist here may have held the locks.
    global _lock
    _lock = Lock()
    for each in list(_tokens.values()):
        each.start_anew()


fork.on_fork(_forget_in_child)
