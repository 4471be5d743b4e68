"""The hand-written recipe: Flask, the OpenAI SDK, ``json.dumps`` and ``stream_with_context``.

Runs as ``gunicorn -k gevent recipe:app``. The client is made once, as the SDK's documentation asks
for; its limit of 1000 connections is lifted, or it would be out of the race at 1001 streams.
"""

import json
import os
from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context
from httpx2 import Limits
from openai import DefaultHttpxClient, OpenAI

app = Flask(__name__)
client = OpenAI(http_client=DefaultHttpxClient(limits=Limits(max_connections=None)))
model = os.environ["BENCH_MODEL"]


@app.post("/api/chat")
def chat() -> Response:
    messages = request.get_json()["messages"]

    def generate() -> Iterator[str]:
        stream = client.chat.completions.create(model=model, messages=messages, stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield f"data: {json.dumps({'text': chunk.choices[0].delta.content})}\n\n"
        yield "event: done\ndata: {}\n\n"

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(stream_with_context(generate()), mimetype="text/event-stream", headers=headers)
