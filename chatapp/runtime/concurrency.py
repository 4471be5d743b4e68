"""Whether this process has greenlets or real threads."""

from gevent import monkey


def cooperative() -> bool:
    """Whether gevent has made sockets cooperative in this process."""
    return bool(monkey.is_module_patched("socket"))
