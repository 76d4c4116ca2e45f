"""Tests the library site: each view with data from the database."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import AsyncClient, Client

from testproject.library.models import Author, Book, Review, Tag
from tests.support.processes import ROOT, environment

pytestmark = pytest.mark.django_db


@pytest.fixture
def book() -> Book:
    author = Author.objects.create(name="Ursula")
    book = Book.objects.create(title="The River", author=author, year=1969)
    book.tags.add(Tag.objects.create(name="classic"))
    return book


@pytest.mark.parametrize("path", ["/", "/search/?q=ursu", "/search/?q=river", "/?page=99"])
def test_lists(client: Client, book: Book, path: str) -> None:
    page = client.get(path).content.decode()
    assert "The River" in page
    assert "classic" in page


def test_search_finds_nothing(client: Client, book: Book) -> None:
    assert "No books" in client.get("/search/?q=nothing").content.decode()


def test_pages_of_book_and_author(client: Client, book: Book) -> None:
    Review.objects.create(book=book, stars=4, text="Fine.")
    assert "Fine." in client.get(f"/books/{book.pk}/").content.decode()
    assert "The River" in client.get(f"/authors/{book.author.pk}/").content.decode()
    assert client.get("/books/0/").status_code == 404
    assert client.get("/authors/0/").status_code == 404


def test_a_review_is_added(client: Client, book: Book) -> None:
    address = f"/books/{book.pk}/review/"
    response = client.post(address, {"stars": 5, "text": "Good."}, follow=True)
    assert "Good." in response.content.decode()
    book.refresh_from_db()
    assert book.review_count == 1
    assert client.post(address, {"stars": 6}).status_code == 400
    assert client.get(address).status_code == 405
    assert client.post("/books/0/review/", {"stars": 5}).status_code == 404


def test_async_view_under_wsgi(client: Client, book: Book) -> None:
    Review.objects.create(book=book, stars=4)
    expected = {"count": 1, "latest": [{"book": "The River", "stars": 4}]}
    assert client.get("/async/").json() == expected


def test_async_view_under_asgi() -> None:
    response = async_to_sync(AsyncClient().get)("/async/")
    assert response.json() == {"count": 0, "latest": []}


def test_slow_view(client: Client, book: Book) -> None:
    assert client.get("/slow/?ms=1").json() == {"authors": 1, "books": 1, "ms": 1}
    assert client.get("/slow/?ms=x").status_code == 400


def test_streaming_view(client: Client, book: Book) -> None:
    response = client.get("/stream/")
    assert response.streaming
    assert response.getvalue() == b"The River\tUrsula\n"


def test_pid_and_health(client: Client) -> None:
    answer = client.get("/pid").json()
    assert answer["pid"] == os.getpid()
    assert answer["pg_backend_pid"] > 0
    assert client.get("/health").content == b"ok\n"


def test_demo_data_are_loaded_once() -> None:
    out = StringIO()
    call_command("loaddemo", stdout=out)
    call_command("loaddemo", stdout=out)
    assert out.getvalue().splitlines() == [
        "Loaded 500 books by 50 authors with 1500 reviews.",
        "There are books already.",
    ]
    assert Author.objects.count() == 50
    assert Review.objects.count() == sum(Book.objects.values_list("review_count", flat=True))


def test_admin(client: Client, book: Book) -> None:
    client.force_login(User.objects.create_superuser("admin"))
    for model in ("author", "book", "review", "tag"):
        assert client.get(f"/admin/library/{model}/").status_code == 200
    assert client.get(f"/admin/library/book/{book.pk}/change/").status_code == 200


@pytest.mark.parametrize(
    "how", [["-m", "testproject.manage"], [str(ROOT / "testproject/manage.py")]]
)
def test_manage_as_script_and_as_module(how: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *how, "makemigrations", "--check", "--dry-run"],
        env={k: v for k, v in environment().items() if k != "DJANGO_SETTINGS_MODULE"},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
