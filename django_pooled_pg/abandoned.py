"""What views say about requests whose client has gone: cancel them, or finish them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

# CancelAbandonedMiddleware looks for this.
MARK = "django_pooled_pg_cancel_abandoned"


def cancel_if_abandoned(view: View) -> View:
    """Allow canceling a view when its client has gone, whatever the request's method.

    For views that answer POST without changing anything, such as a search. For a class, decorate
    `dispatch`. Needs `CancelAbandonedMiddleware`.
    """
    marked: View = _marked(view, "cancel_if_abandoned", True)
    return marked


def finish_if_abandoned(view: View) -> View:
    """Let a view go on when its client has gone, even if the method is GET, HEAD or OPTIONS.

    For views that change something, or fill a cache. For a class, decorate `dispatch`.
    """
    marked: View = _marked(view, "finish_if_abandoned", False)
    return marked


def _marked(view: Any, name: str, cancels: bool) -> Any:
    if not callable(view) or inspect.isclass(view):
        raise TypeError(
            f"{name} decorates a view: write @{name} above a function, or "
            f'@method_decorator({name}, name="dispatch") above a class'
        )
    if inspect.iscoroutinefunction(view):

        @wraps(view)
        async def marked_async(*args: Any, **kwargs: Any) -> Any:
            return await view(*args, **kwargs)

        marked: Any = marked_async
    else:

        @wraps(view)
        def marked_sync(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        marked = marked_sync
    # On a new function: the same view may be used elsewhere without the mark.
    setattr(marked, MARK, cancels)
    return marked
