"""gunicorn's settings; `gunicorn -k gevent wsgi:app` in this folder reads them by itself.

Nothing of `chatapp` is imported at the top: the master would load the TLS library before gevent
can patch it, and the workers inherit that.
"""

import os
import resource
import socket

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

worker_class = "gevent"
# Any number works. One carries thousands of streams; more are for more cores.
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_connections = 10_000  # idle keep-alive connections count too
keepalive = 5  # also bounds the time for a request's head, so never 0
graceful_timeout = 30  # the orchestrator's kill must come later
timeout = 60  # of the worker's heartbeat, which stops before `worker_exit` has ended
max_requests = 0  # a worker that recycles takes no visitors while its streams run
control_socket_disable = True

UNACKNOWLEDGED_MS = 60_000
SEND_BUFFER = 65_536


def when_ready(server):
    """Accepted sockets inherit these: a dead or stalled reader must not hold megabytes."""
    for listener in server.LISTENERS:
        sock = listener.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def post_worker_init(worker):
    """The application is loaded, in a patched process."""
    from chatapp import gunicorn_hooks

    gunicorn_hooks.attach(worker)


def worker_exit(_server, worker):
    """The last thing in a worker: hold it until its answers are saved."""
    from chatapp import gunicorn_hooks

    gunicorn_hooks.finish(worker)
