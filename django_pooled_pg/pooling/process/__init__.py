"""This process: the threads and greenlets that borrow, its forks, and when gevent patched it."""
