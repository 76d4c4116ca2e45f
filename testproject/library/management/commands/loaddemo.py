"""Loads the demo data: the same each time, and at most once."""

from __future__ import annotations

import random
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from testproject.library.models import Author, Book, Review, Tag

AUTHORS, BOOKS, TAGS, REVIEWS = 50, 500, 10, 1500
NOUNS = ["River", "Window", "Garden", "Engine", "Letter", "Harbour", "Clock", "Forest"]
ADJECTIVES = ["Silent", "Last", "Green", "Broken", "Distant", "Golden", "Hidden", "Second"]


class Command(BaseCommand):
    help = "Load the library's demo data, unless there are books already."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            if Book.objects.exists():
                self.stdout.write("There are books already.")
                return
            load()
        self.stdout.write(f"Loaded {BOOKS} books by {AUTHORS} authors with {REVIEWS} reviews.")


def load() -> None:
    dice = random.Random(1)
    authors = Author.objects.bulk_create(Author(name=f"Author {n:02}") for n in range(AUTHORS))
    tags = Tag.objects.bulk_create(Tag(name=f"tag {n}") for n in range(TAGS))
    rated = [n % BOOKS for n in range(REVIEWS)]
    books = Book.objects.bulk_create(
        Book(
            title=f"The {dice.choice(ADJECTIVES)} {dice.choice(NOUNS)} {n}",
            author=dice.choice(authors),
            year=dice.randrange(1900, 2026),
            review_count=rated.count(n),
        )
        for n in range(BOOKS)
    )
    Book.tags.through.objects.bulk_create(
        Book.tags.through(book=book, tag=tag) for book in books for tag in dice.sample(tags, 2)
    )
    Review.objects.bulk_create(
        Review(book=books[n], stars=dice.randint(1, 5), text="Worth the time.") for n in rated
    )
