from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from books.models import Book


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(Book.objects.count()))


urlpatterns = [path("count", count)]
