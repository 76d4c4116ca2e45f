"""PostgreSQL, under a name that ends like that of Django's own engine: packages look at that."""
