"""The examples do what they say."""

from collections.abc import Callable

from tests.support.client import Client
from tests.support.gunicorn import Gunicorn

ALLOWED = "http://127.0.0.1:5173"


def test_push_sends_ticks_to_a_page_of_the_allowed_origin(serve: Callable[..., Gunicorn]) -> None:
    client = Client(serve(app="examples.push:app").url)
    stream = client.stream("/chat/api/events", Origin=ALLOWED)
    assert stream.status == 200
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["Access-Control-Allow-Origin"] == ALLOWED
    events = iter(stream)
    first, second = next(events), next(events)
    stream.close()
    assert stream.raw.startswith(b"retry: 1000\n")
    assert [first.event, second.event] == ["tick", "tick"]
    assert second.data["count"] == first.data["count"] + 1
    assert first.data["text"] == f"Message {first.data['count']} 你好"

    resumed = client.stream("/chat/api/events", Last_Event_ID=first.id)
    assert next(iter(resumed)) == second
    resumed.close()


def test_push_gives_no_leave_to_other_origins(serve: Callable[..., Gunicorn]) -> None:
    client = Client(serve(app="examples.push:app").url)
    stream = client.stream("/chat/api/events", Origin="http://127.0.0.1:5174")
    stream.close()
    assert "Access-Control-Allow-Origin" not in stream.headers


def test_push_has_a_page_that_listens(serve: Callable[..., Gunicorn]) -> None:
    client = Client(serve(app="examples.push:app").url)
    page = client.get("/clock")
    assert page.status == 200
    assert b'<script src="/clock.js">' in page.body
    script = client.get("/clock.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert b'new EventSource("/chat/api/events")' in script.body
