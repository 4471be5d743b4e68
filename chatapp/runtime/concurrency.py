"""Which kind of threads this process has."""

from gevent import monkey


def cooperative() -> bool:
    """Whether gevent has made sockets cooperative in this process."""
    return bool(monkey.is_module_patched("socket"))
