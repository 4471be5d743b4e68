"""gunicorn's settings; `gunicorn -k gevent wsgi:app` in this folder reads them by itself.

Nothing of `chatapp` is imported at the top: the master would load the TLS library before gevent
can patch it, and the workers inherit that.
"""

import os
import resource
import signal
import socket
import time

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

worker_class = "gevent"
# Any number works. One carries thousands of streams; more are for more cores.
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_connections = 10_000  # idle keep-alive connections count too
keepalive = 5  # also bounds the time for a request's head, so never 0
graceful_timeout = 30  # the orchestrator's kill must come later
timeout = 60  # of the worker's heartbeat, which stops before `worker_exit` has ended
control_socket_disable = True
# Else `/x/metrics` with the header `SCRIPT_NAME: /x` is `/metrics`, behind the proxy's back.
forwarder_headers = ""

UNACKNOWLEDGED_MS = 60_000
SEND_BUFFER = 65_536
REPLACED = float("inf")
"""The age of a worker that serves only until others do; gunicorn's ages say who came first."""


def on_starting(server):
    """Have the master neither count workers that drain nor wait for them, deaf to all signals."""
    server.manage_workers = lambda: manage_workers(server)


on_reload = on_starting  # The master may have been started with another version of this file.


def manage_workers(server):
    """Keep as many workers as are wanted; those that they replace are told when all of them serve.

    Called by gunicorn's master after each signal, and once a second.
    """
    workers = list(server.WORKERS.values())
    for worker in workers:
        if wants_to_be_replaced(worker):
            worker.age = REPLACED
    staying = sorted((w for w in workers if w.age != REPLACED), key=lambda w: w.age)
    surplus = len(staying) - server.num_workers
    for worker in staying[: max(surplus, 0)]:
        worker.age = REPLACED
    for _ in range(-surplus):
        server.spawn_worker()
        time.sleep(0.05)  # as gunicorn: not all of them at once
    if surplus >= 0 and all(serves(worker) for worker in staying[surplus:]):
        for worker in workers:
            if worker.age == REPLACED and serves(worker) and not getattr(worker, "told", False):
                worker.told = True
                server.kill_worker(worker.pid, signal.SIGHUP)
    if len(server.WORKERS) == server.num_workers:
        type(server).manage_workers(server)  # With nothing left to do, it reports figures.


def wants_to_be_replaced(worker):
    """Whether it has written into its heartbeat's file, which is else empty."""
    return os.fstat(worker.tmp.fileno()).st_size > 0


def serves(worker):
    """Whether its heart has begun to beat: by a clock that is far behind the file's first time."""
    return worker.tmp.last_update() <= time.monotonic()


def when_ready(server):
    """Accepted sockets inherit these: a dead or stalled reader must not hold megabytes."""
    for listener in server.LISTENERS:
        sock = listener.sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def post_fork(_server, _worker):
    """Have a worker that is told to go while it starts go: it would queue signals like its master.

    gunicorn gives it handlers of its own only when it has been patched.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def post_worker_init(worker):
    """The application is loaded, in a patched process."""
    from chatapp import gunicorn_hooks

    gunicorn_hooks.attach(worker)


def worker_exit(_server, worker):
    """The last thing in a worker: hold it until its answers are saved."""
    from chatapp import gunicorn_hooks

    gunicorn_hooks.finish(worker)
