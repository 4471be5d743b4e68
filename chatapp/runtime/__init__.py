"""Threads and greenlets: waiting, waking, retrying, work beside the requests."""
