"""The runnable application: `gunicorn -k gevent wsgi:app`."""

from gevent import monkey

# Before anything imports ssl. A gevent worker has done it by now; `--preload` and `flask run`
# have not, and then https to the upstream would fail.
monkey.patch_all()

from chatapp import create_app  # noqa: E402 - patched first

app = create_app()
