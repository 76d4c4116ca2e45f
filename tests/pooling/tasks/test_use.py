"""One server session is a thread's and a task's in turn; what psycopg keeps private is as expected."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from django_pooled_pg.pooling.session import handles
from django_pooled_pg.pooling.tasks import running
from django_pooled_pg.pooling.tasks.use import OF_KIND, TaskUse


def attributes(connection_class: Any) -> dict[str, Any]:
    connection = object.__new__(connection_class)
    connection.__init__(SimpleNamespace(notice_handler=None, notify_handler=None))
    found = dict(vars(connection))
    connection._closed = True  # or it says that it was left open
    connection.pgconn.status = psycopg.pq.ConnStatus.BAD
    return found


def test_psycopgs_connections_differ_in_known_attributes_alone() -> None:
    threads, tasks = attributes(psycopg.Connection), attributes(psycopg.AsyncConnection)
    assert threads.keys() == tasks.keys()
    differing = {
        name
        for name in threads
        if type(threads[name]) is not type(tasks[name])
        or (isinstance(threads[name], type) and threads[name] is not tasks[name])
    }
    assert differing == set(OF_KIND)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (psycopg.AsyncCursor, ("_execute_gen", "_stream_fetchone_gen")),
        (psycopg.AsyncServerCursor, ("_close_gen",)),
        (psycopg.AsyncCopy, ("_read_gen", "_read_row_gen", "_end_copy_out_gen")),
        (psycopg.AsyncConnection, ("_commit_gen", "_rollback_gen", "_set_autocommit_gen")),
        (psycopg.AsyncTransaction, ("_enter_gen", "_exit_gen")),
        (psycopg.AsyncPipeline, ("_enter_gen", "_sync_gen", "_fetch_gen", "_exit_gen")),
    ],
)
def test_psycopg_has_the_private_names(owner: Any, names: tuple[str, ...]) -> None:
    known = running._CONTINUE | running._CLEAN_UP
    for name in names:
        code = getattr(owner, name).__code__
        assert name == "_execute_gen" or code in known


def test_the_names_of_threads_are_those_of_tasks() -> None:
    assert psycopg.AsyncTransaction._exit_gen is psycopg.Transaction._exit_gen
    assert psycopg.AsyncConnection._commit_gen is psycopg.Connection._commit_gen  # type: ignore[comparison-overlap]
    assert psycopg.AsyncConnection._commit_gen.__code__ in handles.HARMLESS


def test_ending_twice_leaves_the_next_borrower_alone(connection: Any) -> None:
    from django_pooled_pg.pooling.session.session import session_of

    session = session_of(connection)
    use = TaskUse(session)
    before = {name: session.namespace[name] for name in OF_KIND}

    async def begin() -> None:
        use.begin_task()

    import asyncio

    asyncio.run(begin())
    assert {name: session.namespace[name] for name in OF_KIND} != before
    use.end()
    assert {name: session.namespace[name] for name in OF_KIND} == before
    session.namespace["lock"] = other = object()
    use.end()
    assert session.namespace["lock"] is other
    session.namespace.update(before)
