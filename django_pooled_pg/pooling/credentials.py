"""Reads the option `credentials`: a callable, a path to one, or a ready-made provider.

The providers are modules of the package `credentials`, which is above this one; we import one by
name when a site uses it. No error shows a value: any may be a secret in the wrong place.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

from .untold import CredentialsProvider, kind, untold
from .values import PATH, Invalid

_PACKAGE = "django_pooled_pg.credentials"
READY_MADE = ("aws_rds", "azure", "file", "google_cloud_sql")


def credentials_of(alias: str, settings: Mapping[str, Any], value: Any) -> CredentialsProvider:
    """Return what makes the credentials for a database with these settings, or raise `Invalid`."""
    if isinstance(value, str) and value.startswith(f"{_PACKAGE}."):
        value = {"provider": value}
    if isinstance(value, Mapping):
        return _ready_made(alias, settings, value)
    problem, cause = f"is {kind(value)}; give a callable or a dotted path to one", None
    if isinstance(value, str) and re.fullmatch(PATH, value):
        try:
            value = pkgutil.resolve_name(value)
        except Exception as ex:
            error = untold("importing it", ex)
            problem, cause = f"can't be imported: {error}", error.__cause__
    if not callable(value):
        raise Invalid(alias, "credentials", problem) from cause
    return CredentialsProvider(value)


def _ready_made(
    alias: str, settings: Mapping[str, Any], given: Mapping[str, Any]
) -> CredentialsProvider:
    arguments = dict(given)
    name = arguments.pop("provider", None)
    if isinstance(name, str):
        name = name.removeprefix(f"{_PACKAGE}.")
    if name not in READY_MADE:
        raise Invalid(
            alias,
            "credentials",
            f"needs a 'provider': one of {', '.join(map(repr, READY_MADE))}; or give a callable "
            "of your own instead",
        )
    module = importlib.import_module(f"{_PACKAGE}.{name}")
    _check(alias, name, arguments, list(inspect.signature(module.provider).parameters)[1:])
    try:
        made = module.provider(settings, **{key: str(text) for key, text in arguments.items()})
    except ValueError as ex:
        raise Invalid(alias, "credentials", f"({name}) {ex}") from None
    renew = getattr(made, "renew_if_due", None)
    return CredentialsProvider(made, renew=renew, least_sslmode=module.LEAST_SSLMODE)


def _check(alias: str, name: str, arguments: Mapping[str, Any], known: list[str]) -> None:
    for key, value in arguments.items():
        if key not in known:
            takes = f"it takes {', '.join(map(repr, known))}" if known else "it takes none"
            raise Invalid(alias, "credentials", f"({name}) has an unknown argument; {takes}")
        # Numbers are allowed for the port.
        if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
            raise Invalid(
                alias, "credentials", f"({name}) has {key!r} {kind(value)}; give a string"
            )
