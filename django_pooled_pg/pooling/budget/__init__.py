"""One limit for the connections of all processes of a host to one server: the budget.

Each connection needs a slot, which is a lock on a byte of a file (`slots.py`). A pool with a budget
is a member of it (`member.py`), tells the others what it has and wants (`records.py`), and gives
connections up to them by the rules of `sharing.py`. `fullness.py` deals with a full server.
"""
