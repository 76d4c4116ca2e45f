"""What a contestant does in its process: a request, a borrow; times only waits."""

from __future__ import annotations

import time
from typing import Any, Protocol

from .contestants import TIMEOUT, Settings


class Subject(Protocol):
    """One contestant at work; any thread may ask it."""

    def request(self, queries: int) -> None:
        """Do what is done around a request, with that many small queries in it."""

    def orm_request(self) -> None:
        """Do the same around one object fetched through the ORM."""

    def borrow(self) -> None:
        """Get a connection and give it back, without a query."""

    def waited_request(self) -> float:
        """Do a request of one query; return the seconds until it had its connection."""

    def slow_request(self, pause: float) -> None:
        """Do a request with a query, that many seconds of something else, and a query."""

    def sleepy_request(self, statement: float) -> float:
        """Do a request with one statement that takes that many seconds in the server.

        Return the seconds until it had its connection.
        """

    def end_thread(self) -> None:
        """Close what a thread that ends would leave to the garbage collector."""


def django_subject(settings: Settings, app: str) -> Subject:
    """Set Django up, once per process."""
    import django
    from django.conf import settings as django_settings

    django_settings.configure(
        DATABASES={"default": settings}, INSTALLED_APPS=[app] if app else [], USE_TZ=True
    )
    django.setup()

    from django.core.handlers.wsgi import WSGIHandler
    from django.core.signals import request_finished, request_started
    from django.db import connection, models

    # As loading any model of a site does: this imports the engine and the driver.
    _ = connection.vendor

    class Database(models.Model):  # noqa: DJ008  # nobody prints one
        """A table that every server has."""

        datname: models.CharField[str, str] = models.CharField(primary_key=True, max_length=63)

        class Meta:
            app_label = "bench"
            managed = False
            db_table = "pg_database"

    class Django:
        def _query(self) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()

        def request(self, queries: int) -> None:
            request_started.send(sender=WSGIHandler, environ={})
            for _ in range(queries):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchone()
            request_finished.send(sender=WSGIHandler)

        def orm_request(self) -> None:
            request_started.send(sender=WSGIHandler, environ={})
            Database.objects.get(pk="template1")
            request_finished.send(sender=WSGIHandler)

        def borrow(self) -> None:
            connection.ensure_connection()
            connection.close()

        def waited_request(self) -> float:
            request_started.send(sender=WSGIHandler, environ={})
            started = time.perf_counter()
            connection.ensure_connection()
            waited = time.perf_counter() - started
            self._query()
            request_finished.send(sender=WSGIHandler)
            return waited

        def slow_request(self, pause: float) -> None:
            request_started.send(sender=WSGIHandler, environ={})
            self._query()
            time.sleep(pause)
            self._query()
            request_finished.send(sender=WSGIHandler)

        def sleepy_request(self, statement: float) -> float:
            request_started.send(sender=WSGIHandler, environ={})
            started = time.perf_counter()
            connection.ensure_connection()
            waited = time.perf_counter() - started
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(%s)", [statement])
            request_finished.send(sender=WSGIHandler)
            return waited

        def end_thread(self) -> None:
            connection.close()

    return Django()


def bare_subject(settings: Settings, size: int) -> Subject:
    """Use psycopg alone: one connection, or a pool of `size`, if that isn't 0."""
    import psycopg
    import psycopg_pool

    # As Django connects: autocommit, no prepared statements, parameters bound in the client.
    given: dict[str, Any] = {
        "host": settings["HOST"],
        "port": settings["PORT"],
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "dbname": settings["NAME"],
        **settings["OPTIONS"],
        "autocommit": True,
        "prepare_threshold": None,
        "cursor_factory": psycopg.ClientCursor,
    }
    kwargs = {key: value for key, value in given.items() if value != ""}

    def query(connection: psycopg.Connection[Any]) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    class One:
        def __init__(self) -> None:
            self._connection = psycopg.connect(**kwargs)

        def request(self, queries: int) -> None:
            for _ in range(queries):
                query(self._connection)

        def orm_request(self) -> None:
            raise NotImplementedError("It has no ORM.")

        def borrow(self) -> None:
            raise NotImplementedError("There is nothing to borrow.")

        def waited_request(self) -> float:
            self.request(1)
            return 0.0

        def slow_request(self, pause: float) -> None:
            self.request(1)
            time.sleep(pause)
            self.request(1)

        def sleepy_request(self, statement: float) -> float:
            raise NotImplementedError("It is measured for engines only.")

        def end_thread(self) -> None:
            pass

    class Pool:
        def __init__(self) -> None:
            self._pool = psycopg_pool.ConnectionPool(
                kwargs=kwargs, min_size=size, max_size=size, timeout=TIMEOUT, open=True
            )

        def request(self, queries: int) -> None:
            with self._pool.connection() as connection:
                for _ in range(queries):
                    query(connection)

        def orm_request(self) -> None:
            raise NotImplementedError("It has no ORM.")

        def borrow(self) -> None:
            self._pool.putconn(self._pool.getconn())

        def waited_request(self) -> float:
            started = time.perf_counter()
            with self._pool.connection() as connection:
                waited = time.perf_counter() - started
                query(connection)
            return waited

        def slow_request(self, pause: float) -> None:
            with self._pool.connection() as connection:
                query(connection)
                time.sleep(pause)
                query(connection)

        def sleepy_request(self, statement: float) -> float:
            raise NotImplementedError("It is measured for engines only.")

        def end_thread(self) -> None:
            pass

    return Pool() if size else One()
