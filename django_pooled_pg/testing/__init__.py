"""Assertions for a site's tests: how often code borrows, and what it does meanwhile.

- `assertions.py`: what tests use, and the messages of failures;
- `watch.py`: what a block did with pools, and holds now;
- `as_if.py`: the same inside the test's own transaction, where nothing is really borrowed;
- `holding.py`: why a connection would not go back;
- `calls.py`: noticing outgoing calls.
"""
