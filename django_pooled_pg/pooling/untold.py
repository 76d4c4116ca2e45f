"""Owns what may be said of a setting's value, and of an error that may hold a secret.

Errors, logs and checks say which setting is wrong and of what type it is; what it is, or what a
vault answered, goes to nobody but a log at DEBUG.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

logger = logging.getLogger(__name__)

_LONGEST_NUMBER = 10**18


def shown(value: object) -> str:
    """Say what a setting is: a number, or its type. A text may be a secret, a dict may hold one."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    # Not of a subclass, whose repr() may say anything.
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int:
        # Python refuses to print one of thousands of digits.
        return repr(value) if abs(value) < _LONGEST_NUMBER else "a number of more than 18 digits"
    return kind(value)


def kind(value: object) -> str:
    """Say of what type a setting is that may be a secret."""
    return f"of type {type(value).__qualname__}"


class Untold(psycopg.OperationalError):
    """Code of the site failed; its own words are kept back."""


def untold(what: str, error: BaseException) -> Untold:
    """Return the error to raise in place of one that may hold a secret; `what` is what raised it.

    Its `__cause__` is of the same type, for handlers that look at it, but has neither text nor
    traceback: loggers and error pages print both, with the variables of each frame.
    """
    logger.debug("%s raised:", what, exc_info=error)
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = ""
    if where is not None:
        code = where.tb_frame.f_code
        place = f" ({code.co_filename}:{where.tb_lineno} in {code.co_name})"
    found = Untold(
        f"{what} raised {type(error).__name__}{place}. What it says may hold a secret: "
        f"{__name__} logs it at DEBUG."
    )
    found.__cause__ = _without_words(error)
    return found


def _without_words(error: BaseException) -> BaseException:
    try:
        bare = type(error).__new__(type(error))
        str(bare), repr(bare)  # which may want what the class's __init__ sets
    except Exception:
        return Exception(type(error).__name__)
    return bare


class Provider:
    """A callable of the settings that returns secrets. `name` is its setting's.

    What it raises becomes `Untold`. It may itself hold a secret (a `functools.partial`, say), so
    its repr() shows no more than its name.
    """

    __slots__ = ("_function", "_name")

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self._name = name
        self._function = function

    def __call__(self) -> Any:
        try:
            return self._function()
        except Untold:
            raise  # by a provider of this package, which knows what may be said
        except Exception as ex:
            error = untold(repr(self._name), ex)
        # Here, so that it has no __context__.
        raise error

    def __repr__(self) -> str:
        return f"<Provider {self._name!r}>"


class CredentialsProvider(Provider):
    """The option `credentials`.

    Of a provider of this package, `renew`, if it has one, is to be called each second; without TLS at
    `least_sslmode`, or better, others may read what it returns.
    """

    __slots__ = ("least_sslmode", "renew")

    def __init__(
        self,
        function: Callable[[], Any],
        *,
        renew: Callable[[], None] | None = None,
        least_sslmode: str | None = None,
    ) -> None:
        super().__init__("credentials", function)
        self.renew = renew
        self.least_sslmode = least_sslmode

    def __call__(self) -> Mapping[str, Any]:
        found = super().__call__()
        if not isinstance(found, Mapping):
            raise Untold(
                f"'credentials' returned something {kind(found)}; it has to return a dict of "
                "connection parameters, such as {'password': ...}"
            )
        return found
