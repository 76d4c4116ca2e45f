"""The psycopg_pool behind a pool: all that relies on its private names."""
