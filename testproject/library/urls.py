"""The library's addresses."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "library"
urlpatterns = [
    path("", views.book_list, name="books"),
    path("books/<int:pk>/", views.book_detail, name="book"),
    path("books/<int:pk>/review/", views.add_review, name="add-review"),
    path("authors/<int:pk>/", views.author_detail, name="author"),
    path("search/", views.search, name="search"),
    path("async/", views.latest_reviews, name="async"),
    path("slow/", views.slow, name="slow"),
    path("restock/", views.restock, name="restock"),
    path("stream/", views.stream, name="stream"),
    path("pid", views.pid, name="pid"),
    path("health", views.health, name="health"),
]
