"""The pool itself: knows psycopg and psycopg_pool, but nothing of Django's request cycle.

Where to look, by question:

- Who lends, and gets back? `pool.py`; who waits: `waiting.py`; the pools of the process:
  `registry.py`; who has what: `lease.py`, in the book of `ledger.py`; figures: `counters.py` and
  `statistics.py`, collected by `figures.py`.
- Where is a dead connection found? `session/liveness.py`, which `session/check.py` asks at each
  borrow; `Supply.drop_dead` drops it, with those that died with it.
- Why does a SET pin? `session/statements.py` knows what a statement leaves, by the words that
  `session/scanner.py` finds; `session/cursors.py` notes it in the borrow's `session/use.py`;
  `is_clean` in `session/reset.py` judges, and `Pool.may_end` asks.
- What does a borrower have, and why is it useless later? `session/handles.py`, `Use.end`.
- What undoes a change, and when? `session/reset.py`, in a worker of the backing.
- What does a time-out say? `exhaustion.py`. A bad setting? `config.py`, `values.py`.
- Where is a fresh password asked for? `../opening.py`, called by `connector.py` for each new
  session; `untold.py` keeps what the callable raises secret.
- How long are the pauses between attempts to connect? `ShortBackoff` in `backing/pool.py`.
- How does an asyncio task borrow? `tasks/`: from the same pool, and the same sessions, as threads.
- Which process may open a connection if all of a host share a limit? `budget/`.
- Who grows, drains, pauses? `supply.py`, `gate.py`. Who reclaims from ended threads?
  `housekeeping.py`, told by `process/borrowers.py`. Who finds lost connections and slots?
  `strays.py`.
- Who may be interrupted, and when? Anybody at any moment: `strays.py`; locks: `process/locks.py`.
  Forks: `process/fork.py`.
- Where are private names? psycopg_pool's in `backing/`, psycopg's in `session/`; both are listed in
  `backing/versions.py`.
"""
