"""A small real Django site on an embedded PostgreSQL; serves the demo, the benchmark, the tests."""
