"""The usual asyncio stack: FastAPI, sse-starlette and ``AsyncOpenAI``.

Runs as ``uvicorn --loop uvloop --http httptools fastapi_sse:app``. The SDK's limit of 1000
connections is lifted, or it would be out of the race at 1001 streams.
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from httpx2 import Limits
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

app = FastAPI()
client = AsyncOpenAI(http_client=DefaultAsyncHttpxClient(limits=Limits(max_connections=None)))
model = os.environ["BENCH_MODEL"]


class Question(BaseModel):
    messages: list[dict[str, Any]]


@app.post("/api/chat")
async def chat(question: Question) -> EventSourceResponse:
    async def generate() -> AsyncIterator[dict[str, str]]:
        stream = await client.chat.completions.create(
            model=model, messages=question.messages, stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield {"data": json.dumps({"text": chunk.choices[0].delta.content})}
        yield {"event": "done", "data": "{}"}

    return EventSourceResponse(generate(), headers={"X-Accel-Buffering": "no"})
