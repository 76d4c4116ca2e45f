"""A page for operators: the pools of all live processes, in a browser."""
