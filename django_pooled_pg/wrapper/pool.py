"""Knows which pool a wrapper's alias has; borrows nothing."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql.base import DatabaseWrapper

from ..opening import session_maker
from ..pooling import registry
from ..pooling.config import PoolConfig, with_fresh_password, without_pool
from ..pooling.pool import Pool

if TYPE_CHECKING:
    _Base = DatabaseWrapper
else:
    _Base = object


class PoolMixin(_Base):
    """A wrapper that knows its pool."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pool: Pool | None = None
        # The settings for which _pool was looked up; None: not looked up yet.
        self._pool_settings: Any = None
        self._settings_of_session: Any = registry.settings_of_session

    @property
    def pool(self) -> Pool | None:
        """The pool of this alias in this process; `None` if it has none.

        Raises `ImproperlyConfigured` for bad settings.
        """
        # Settings change in place: between tests, and where a site has many databases.
        if self._pool_settings != registry.settings_of_session(self.settings_dict):
            # From here on, one consistent copy: threads share the dict.
            settings = registry.snapshot(self.settings_dict)
            if self._pool_settings is None:
                # Once for each wrapper, even if the pool exists already.
                PoolConfig.from_settings(self.alias, settings)
            if self.alias == NO_DB_ALIAS:
                self._pool = None
            else:
                make = partial(session_maker, type(self), self.alias)
                self._pool = registry.pool_for(self.alias, settings, make)
            self._pool_settings = registry.settings_of_session(settings)
            self._settings_of_session = registry.settings_getter(settings)
        return self._pool

    def close_pool(self) -> None:
        """Close the idle connections of this alias now, and lent ones when they return.

        Safe from any thread at any time; the next query opens the pool again.
        """
        # Celery's fixup has just returned this thread's connection; but it also calls this before
        # and after each task, which would make each task connect.
        # https://github.com/celery/celery/issues/10554
        if sys._getframe(1).f_globals.get("__name__") != "celery.fixups.django":
            registry.close(self.alias, self.settings_dict)

    def get_connection_params(self) -> dict[str, Any]:
        params = without_pool(super().get_connection_params())
        if self.alias == NO_DB_ALIAS:
            # What creates and drops test databases has no pool that would ask for these.
            if callable(self.settings_dict["PASSWORD"]):
                params["password"] = with_fresh_password(self.settings_dict)["PASSWORD"]
            config = PoolConfig.from_settings(self.alias, self.settings_dict)
            if config is not None and config.credentials is not None:
                params.update(config.credentials())
        return params
