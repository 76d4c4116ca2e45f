from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, cast

from django_pooled_pg.pooling.lease import Lease, describe_longest
from django_pooled_pg.pooling.process.borrowers import Borrower


def lease(thread_id: int, held: float) -> Lease:
    nothing = cast(Any, None)
    return Lease(
        pool=nothing,
        connection=nothing,
        session=nothing,
        use=nothing,
        backing=nothing,
        holder=None,
        borrower=Borrower(thread_id, "worker-7"),
        since=monotonic() - held,
    )


def test_the_longest_come_first_with_thread_time_and_place() -> None:
    started, stop = threading.Event(), threading.Event()

    def wait_here() -> None:
        started.set()
        stop.wait(10)

    thread = threading.Thread(target=wait_here, name="worker-7")
    thread.start()
    started.wait(5)
    assert thread.ident is not None
    try:
        said = describe_longest([lease(threading.get_ident(), 1), lease(thread.ident, 65)])
    finally:
        stop.set()
        thread.join()
    first, second = said.split("; ")
    assert first.startswith(f"worker-7 ({thread.ident}) for 65.0 s, now at ")
    # Both are in a library at this moment; told is where the application called it.
    assert "test_lease.py" in first
    assert first.endswith("in wait_here")
    assert "test_the_longest_come_first" in second


def test_a_thread_with_no_application_code_is_somewhere_in_a_library() -> None:
    pool = ThreadPoolExecutor(1)
    try:
        thread_id = pool.submit(threading.get_ident).result()
        assert "now at " in describe_longest([lease(thread_id, 1)])
    finally:
        pool.shutdown()


def test_a_thread_that_ended_is_nowhere() -> None:
    said = describe_longest([lease(-1, 2)])
    assert said == "worker-7 (-1) for 2.0 s, now not running"


def test_only_a_few_are_named() -> None:
    assert describe_longest([lease(1, n) for n in range(9)], limit=2).count(";") == 1
