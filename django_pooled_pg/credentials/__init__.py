"""Ready-made providers for the option `credentials`, one module each: docs/credentials.md.

Each has a function `provider(database, ...)`, which takes the alias's settings and the site's
arguments, and raises `ValueError` if one is wrong. The pool calls what it returns for each new
connection. `pooling/credentials.py` imports a module by name when a site uses it.
"""
