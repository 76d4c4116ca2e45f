"""The library's pages, one for each way a site uses its database."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import Avg, F, Q
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from .forms import ReviewForm
from .models import Author, Book, Review

MAX_SLOW_MS = 10_000
SUPPLIER_SECONDS = 60.0


@require_safe
def book_list(request: HttpRequest) -> HttpResponse:
    books = Book.objects.select_related("author").prefetch_related("tags")
    page = Paginator(books, 20).get_page(request.GET.get("page"))
    return render(request, "library/books.html", {"page": page})


@require_safe
def book_detail(request: HttpRequest, pk: int) -> HttpResponse:
    books = Book.objects.select_related("author").annotate(stars=Avg("reviews__stars"))
    book = get_object_or_404(books, pk=pk)
    context = {"book": book, "reviews": book.reviews.all()[:10], "form": ReviewForm()}
    return render(request, "library/book.html", context)


# The load generator has no cookies, and the site has no users to protect.
@csrf_exempt
@require_POST
def add_review(request: HttpRequest, pk: int) -> HttpResponse:
    form = ReviewForm(request.POST)
    with transaction.atomic():
        book = get_object_or_404(Book.objects.select_for_update(), pk=pk)
        if not form.is_valid():
            return JsonResponse({"errors": form.errors}, status=400)
        form.instance.book = book
        form.save()
        Book.objects.filter(pk=pk).update(review_count=F("review_count") + 1)
    return redirect("library:book", pk=pk)


@require_safe
def author_detail(request: HttpRequest, pk: int) -> HttpResponse:
    author = get_object_or_404(Author.objects.prefetch_related("books__tags"), pk=pk)
    return render(request, "library/author.html", {"author": author})


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    words = request.GET.get("q", "")
    found = Book.objects.select_related("author").prefetch_related("tags")
    found = found.filter(Q(title__icontains=words) | Q(author__name__icontains=words))
    page = Paginator(found, 20).get_page(request.GET.get("page"))
    return render(request, "library/books.html", {"page": page, "words": words})


async def latest_reviews(request: HttpRequest) -> JsonResponse:
    reviews = Review.objects.select_related("book")[:10]
    return JsonResponse(
        {
            "count": await Review.objects.acount(),
            "latest": [{"book": r.book.title, "stars": r.stars} async for r in reviews],
        }
    )


@require_safe
def slow(request: HttpRequest) -> JsonResponse:
    """Two queries, with a call to something slow other than the database in between."""
    try:
        ms = min(max(int(request.GET.get("ms", "50")), 0), MAX_SLOW_MS)
    except ValueError:
        return JsonResponse({"error": "ms has to be a number"}, status=400)
    authors = Author.objects.count()
    time.sleep(ms / 1000)
    return JsonResponse({"authors": authors, "books": Book.objects.count(), "ms": ms})


@require_safe
def restock(request: HttpRequest) -> HttpResponse:
    """Order missing books in the background; `?careful=1` holds no connection meanwhile."""
    careful = request.GET.get("careful") == "1"
    threading.Thread(target=order_missing, args=(careful,), name="restock", daemon=True).start()
    return HttpResponse("started\n", status=202, content_type="text/plain")


def order_missing(careful: bool) -> None:
    """Order books that nobody has reviewed; only one thread does so at a time."""
    lock = "pg_try_advisory_xact_lock" if careful else "pg_try_advisory_lock_shared"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT {lock}(4711)")
        titles = list(Book.objects.filter(review_count=0).values_list("title", flat=True)[:100])
    # A session's lock stays, and the connection with it; a transaction's is gone by now.
    ask_supplier(titles)
    connection.close()


def ask_supplier(titles: list[str]) -> None:
    """Stands for a remote service that takes its time."""
    time.sleep(SUPPLIER_SECONDS)


@require_safe
def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for title, author in Book.objects.values_list("title", "author__name").iterator(100):
            yield f"{title}\t{author}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")


@require_safe
def pid(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    return JsonResponse({"pid": os.getpid(), "pg_backend_pid": backend})


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")
