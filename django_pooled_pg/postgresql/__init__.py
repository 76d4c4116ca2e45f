"""PostgreSQL, under a name that ends like Django's own engine's: packages look at it."""
