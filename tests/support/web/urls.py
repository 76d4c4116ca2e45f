"""Addresses of views that wait in the database, or ask it in ways of async code."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("ping", views.ping),
    path("refusal/", views.refusal),
    path("sleep/", views.sleep),
    path("lock/", views.lock),
    path("async/sleep/", views.async_sleep),
    path("async/lock/", views.async_lock),
    path("async/books/", views.async_books),
    path("async/gather/", views.async_gather),
    path("async/nested/", views.async_nested),
    path("async/stream/", views.async_stream),
    path("pools/", include("django_pooled_pg.monitoring.urls")),
    path("", include("testproject.library.urls")),
]
