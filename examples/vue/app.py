"""The chat's API, and a page of one's own in Vue 3 that uses it.

gunicorn -k gevent examples.vue.app:app
"""

from gevent import monkey

monkey.patch_all()

from flask import Flask, Response  # noqa: E402 - patched first

from chatapp import ChatApp  # noqa: E402

# `npm run build` writes the page to `dist`.
app = Flask(__name__, static_folder="dist", static_url_path="")
chat = ChatApp(app, url_prefix="/chat")


@app.get("/")
def page() -> Response:
    """The page that Vite has built."""
    response = app.send_static_file("index.html")
    response.headers["Content-Security-Policy"] = "default-src 'self'"
    return response
