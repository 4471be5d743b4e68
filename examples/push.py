"""A server that pushes a message every two seconds to an `EventSource`.

    gunicorn -k gevent examples.push:app

Then open http://127.0.0.1:8000/clock, or `curl -N http://127.0.0.1:8000/chat/api/events`.
A page on another origin may listen as well:

    const source = new EventSource("http://127.0.0.1:8000/chat/api/events");
    source.addEventListener("tick", (event) => console.log(JSON.parse(event.data)));
"""

from gevent import monkey

monkey.patch_all()

import itertools  # noqa: E402 - patched first
import threading  # noqa: E402
import time  # noqa: E402

from flask import Flask, Response  # noqa: E402

from chatapp import ChatApp  # noqa: E402

SECONDS = 2

app = Flask(__name__)
app.config["CHATAPP_CORS_ORIGINS"] = "http://127.0.0.1:5173"
chat = ChatApp(app, url_prefix="/chat")


def tick() -> None:
    """Publish to every open page, for ever."""
    with app.app_context():
        for count in itertools.count(1):
            chat.publish("tick", {"count": count, "text": f"Message {count} 你好"})
            time.sleep(SECONDS)


threading.Thread(target=tick, daemon=True).start()

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Push</title>
<ol></ol>
<script src="/clock.js"></script>
"""
SCRIPT = """
const list = document.querySelector("ol");
new EventSource("/chat/api/events").addEventListener("tick", (event) => {
  const item = document.createElement("li");
  item.textContent = JSON.parse(event.data).text;
  list.append(item);
});
"""


@app.get("/clock")
def clock() -> str:
    """A page that lists the messages as they come."""
    return PAGE


@app.get("/clock.js")
def clock_script() -> Response:
    """The page's script."""
    return Response(SCRIPT, content_type="text/javascript; charset=utf-8")
