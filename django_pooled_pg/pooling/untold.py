"""Decides what we may say about a setting's value, or about an error that may hold a secret.

Errors, logs and checks say which setting is wrong and what type it has. Its value, or a vault's
answer, goes only to a log at DEBUG.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

logger = logging.getLogger(__name__)

_LONGEST_NUMBER = 10**18


def shown(value: object) -> str:
    """Describe a setting: a number, or its type. A string may be a secret, a dict may hold one."""
    if isinstance(value, str):
        return "a string"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    # Exact types only: a subclass's repr() may say anything.
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int:
        # Python refuses to print a number of thousands of digits.
        return repr(value) if abs(value) < _LONGEST_NUMBER else "a number of more than 18 digits"
    return kind(value)


def kind(value: object) -> str:
    """Name the type of a setting that may be a secret."""
    return f"of type {type(value).__qualname__}"


class Untold(psycopg.OperationalError):
    """The site's own code failed; its message is withheld."""


def untold(what: str, error: BaseException) -> Untold:
    """Return the error to raise in place of one that may hold a secret; `what` raised it.

    Its `__cause__` has the same type, for handlers that look at it, but neither message nor
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
        f"{what} raised {type(error).__name__}{place}. Its message may hold a secret: "
        f"{__name__} logs it at DEBUG."
    )
    found.__cause__ = _without_words(error)
    return found


def _without_words(error: BaseException) -> BaseException:
    try:
        bare = type(error).__new__(type(error))
        str(bare), repr(bare)  # these may need what the class's __init__ sets
    except Exception:
        return Exception(type(error).__name__)
    return bare


class Provider:
    """A callable from the settings that returns secrets; `name` is its setting.

    What it raises becomes `Untold`. The callable may itself hold a secret (a `functools.partial`,
    say), so repr() shows only the name.
    """

    __slots__ = ("_function", "_name")

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self._name = name
        self._function = function

    def __call__(self) -> Any:
        try:
            return self._function()
        except Untold:
            raise  # from a provider of this package, which knows what it may say
        except Exception as ex:
            error = untold(repr(self._name), ex)
        # Raised here, so that it has no __context__.
        raise error

    def __repr__(self) -> str:
        return f"<Provider {self._name!r}>"


class CredentialsProvider(Provider):
    """The option `credentials`.

    Ready-made providers may add two things: `renew` is to be called each second; and with an
    `sslmode` below `least_sslmode`, others may be able to read what the provider returns.
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
                f"'credentials' returned something {kind(found)}; it must return a dict of "
                "connection parameters, such as {'password': ...}"
            )
        return found
