"""Says where in the code this thread is; knows no pool."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from contextlib import ContextDecorator
from pathlib import Path
from types import FrameType

import asgiref
import django

from .pooling.lease import describe_frame, libraries

_DJANGO = os.path.join(Path(django.__file__).parent, "")
_ORM = os.path.join(_DJANGO, "db", "")
_PACKAGES = (_DJANGO, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
# Everything passes through these, so they say nothing.
_PASSED_THROUGH = (
    os.path.join(Path(asgiref.__file__).parent, ""),
    os.path.join(Path(__file__).parent, ""),
    os.path.join(_DJANGO, "test", "testcases.py"),
    os.path.join(_DJANGO, "utils", ""),
    os.path.join(Path(django.__file__).parents[1], "debug_toolbar", ""),
)
# Frames further out belong to the server or the test runner, not to the request or the test.
_BEGINNINGS = (
    *(
        os.path.join(_DJANGO, *path)
        for path in [
            ("core", "handlers", "wsgi.py"),
            ("core", "handlers", "asgi.py"),
            ("test", "client.py"),
        ]
    ),
    os.path.join(sysconfig.get_path("stdlib"), "unittest", "case.py"),
    *(os.path.join(_PACKAGES[1], name, "") for name in ("_pytest", "pytest_django")),
)
# What a context manager turns a function into that it decorates, such as a view in `atomic`.
_DECORATED = ContextDecorator()(lambda: None).__code__


def place_of_caller() -> str:
    """Return `"file:line in function"` of the application's innermost frame in this thread.

    Without one (the ORM's async methods run in another thread, middleware may query on its own),
    it is that of the library that queries, or at least the ORM's method. `""` if there is none.
    """
    library = method = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_BEGINNINGS):
            break
        if not name.startswith(libraries()):
            return describe_frame(frame)
        if frame.f_code is _DECORATED and (place := _place_of_decorated(frame)):
            return place
        if name.startswith(_ORM):
            method = frame
        elif (
            library is None and name.startswith(_PACKAGES) and not name.startswith(_PASSED_THROUGH)
        ):
            library = frame
        frame = frame.f_back
    found = library or method
    return describe_frame(found) if found is not None else ""


def _place_of_decorated(frame: FrameType) -> str:
    """Return where the application's function is that the frame is about to call, or `""`."""
    code = getattr(inspect.unwrap(frame.f_locals.get("func", len)), "__code__", None)
    if code is None or code.co_filename.startswith(libraries()):
        return ""
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_name}"
