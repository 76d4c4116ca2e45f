"""A library: authors, books, tags and reviews."""
