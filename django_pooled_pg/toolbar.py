"""The panel for django-debug-toolbar, which shows what the request did with pools."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse

from .pooling import registry
from .request_record import Record, recording


# Panel's methods have no types; hence the "type: ignore" comments.
class PoolPanel(Panel):
    """`"django_pooled_pg.toolbar.PoolPanel"` in `DEBUG_TOOLBAR_PANELS`.

    It shows what was done until the response is ready. It stores only figures, aliases, names of
    commands and places in the code.
    """

    is_async = True
    title = "Connection pools"
    nav_title = "Pools"
    template = "django_pooled_pg/toolbar_panel.html"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recording = ExitStack()
        self._record: Record | None = None

    @property
    def nav_subtitle(self) -> str:
        return str(self.get_stats().get("summary", ""))  # type: ignore[no-untyped-call]

    def enable_instrumentation(self) -> None:
        if self._record is None:
            self._record = self._recording.enter_context(recording(with_places=True))

    def disable_instrumentation(self) -> None:
        self._recording.close()

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        if self._record is None:
            return
        totals = self._record.totals()
        borrows = sum(each.borrows for each in totals)
        waited = sum(each.waited for each in totals)
        summary = f"{borrows} borrow{'' if borrows == 1 else 's'}, waited {waited * 1000:.1f} ms"
        if exhausted := sum(each.exhausted for each in totals):
            summary += f", {exhausted} exhausted"
        self.record_stats(  # type: ignore[no-untyped-call]
            {
                "summary": summary,
                "totals": [_in_ms(each) for each in totals],
                "borrows": [_in_ms(each) for each in self._record.borrows()],
                "pools": [asdict(pool) for pool in registry.statistics()],
            }
        )

    def generate_server_timing(self, request: HttpRequest, response: HttpResponse) -> None:
        if self._record is None:
            return
        for key, title in [("waited", "wait"), ("held", "held"), ("worked", "database")]:
            seconds = sum(getattr(totals, key) for totals in self._record.totals())
            self.record_server_timing(  # type: ignore[no-untyped-call]
                key, f"Pools: {title}", round(seconds * 1000, 1)
            )


def _in_ms(figures: Any) -> dict[str, Any]:
    found = asdict(figures)
    return {
        key: value * 1000 if isinstance(value, float) else value for key, value in found.items()
    }
