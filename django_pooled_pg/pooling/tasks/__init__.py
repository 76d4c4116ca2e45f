"""Lets asyncio's tasks borrow from the pool that threads borrow from.

- `borrow.py`: borrowing as `Pool.borrow` does it, without blocking the event loop;
- `claim.py`: a task's place in the queue; `borrower.py`: who it is, and where it awaits;
- `use.py`: one server session, used by threads and by tasks in turn; `handles.py` and `cursors.py`:
  what a task has of it; `running.py`: its statements and their deadlines;
- `errand.py`: what a thread does for a task.
"""
