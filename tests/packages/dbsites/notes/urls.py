"""Views that say whose notes they see: all that they say must be one tenant's."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.packages.dbsites.notes.models import Note


def texts() -> list[str]:
    return list(Note.objects.values_list("text", flat=True))


def notes(request: HttpRequest) -> JsonResponse:
    seen = texts()
    with transaction.atomic():
        seen += texts()
        try:
            with transaction.atomic():
                Note.objects.create(pk=Note.objects.get().pk, text="a duplicate")
        except Exception:
            pass
        seen += texts()
    seen += [note.text for note in Note.objects.iterator(chunk_size=1)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT text, pg_sleep(0.005) FROM notes_note")
        seen += [text for text, _ in cursor.fetchall()]
        cursor.execute("SHOW search_path")
        return JsonResponse({"seen": seen, "search_path": cursor.fetchone()[0]})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Any:
        for _ in range(3):
            yield f"{','.join(texts())}\n"

    return StreamingHttpResponse(lines())


def fail(request: HttpRequest) -> JsonResponse:
    texts()
    raise RuntimeError("on purpose")


urlpatterns = [path("notes", notes), path("stream", stream), path("fail", fail)]
