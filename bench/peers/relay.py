"""A raw relay under Flask and gunicorn, that looks at no byte of the answer.

Runs as ``gunicorn -k gevent relay:app``. The upstream is asked in HTTP/1.0, so that its answer is
not chunked and what comes from one ``recv`` is passed on with one ``yield``. There is no decoding,
no log, no event number, no heartbeat, no keep-alive to the upstream, and a visitor who has gone is
noticed by a failing write only.
"""

import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Flask, Response, request
from gevent import socket

app = Flask(__name__)
upstream = urlsplit(os.environ["OPENAI_BASE_URL"])
model = os.environ["BENCH_MODEL"]
host, port = upstream.hostname or "", upstream.port or 80
head_format = (
    f"POST {upstream.path}/chat/completions HTTP/1.0\r\nHost: {host}:{port}\r\n"
    f"Authorization: Bearer {os.environ['OPENAI_API_KEY']}\r\n"
    "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@app.post("/api/chat")
def chat() -> Response:
    question = {"model": model, "messages": request.get_json()["messages"], "stream": True}
    body = json.dumps(question).encode()
    connection = socket.create_connection((host, port), timeout=60)
    connection.sendall((head_format % len(body)).encode() + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(16384)
        if not received:
            connection.close()
            return Response("The upstream sent no response.", 502)
        answer += received
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])

    def generate() -> Iterator[bytes]:
        try:
            if rest:
                yield rest
            while piece := connection.recv(16384):
                yield piece
        finally:
            connection.close()

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(generate(), status, mimetype="text/event-stream", headers=headers)
