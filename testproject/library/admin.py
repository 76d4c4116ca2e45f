"""The library's pages in the admin."""

from __future__ import annotations

from django.contrib import admin

from .models import Author, Book, Review, Tag


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    search_fields = ["name"]


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    search_fields = ["name"]


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    autocomplete_fields = ["author", "tags"]
    list_display = ["title", "author", "year", "review_count"]
    list_filter = ["tags"]
    list_select_related = ["author"]
    search_fields = ["title", "author__name"]


@admin.register(Review)
class ReviewAdmin(admin.ModelAdmin):
    autocomplete_fields = ["book"]
    list_display = ["book", "stars", "written"]
    list_select_related = ["book"]
