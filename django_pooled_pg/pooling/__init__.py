"""The pool itself: knows psycopg and psycopg_pool, nothing of Django's request cycle."""
