"""Ready-made providers for the option `credentials`, one module each: docs/credentials.md.

Each has a function `provider(database, ...)`, which gets the alias' settings and the arguments of the
site, and raises `ValueError` with what is wrong with them. What it returns is called for each new
connection. `pooling/credentials.py` imports it by name when a site uses it.
"""
