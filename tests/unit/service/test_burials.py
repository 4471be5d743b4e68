"""What dead workers have left: ended, or gone on with, a few seconds later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask

from chatapp.answers.events import Event, EventType, event_data, start_event
from chatapp.answers.sse import encode
from chatapp.conversations.ledger import Ledger, Opened
from chatapp.conversations.store import Content, Message, Store
from chatapp.eventlog import Record, Segment, State
from chatapp.extension import extension_key
from chatapp.service.service import Service
from tests.support.embedded_app import host, mounted
from tests.support.event_logs import record
from tests.support.upstream import FakeUpstream, poll

OWNER = "chatapp/visitor:me"


def service_of(tmp_path: Path, upstream: FakeUpstream, **options: Any) -> Service:
    app: Flask = host(tmp_path)
    mounted(app, upstream.url, lease=1, **options)
    service: Service = app.extensions[extension_key("chatapp")].service
    return service


@pytest.fixture
def service(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Service]:
    """Of a worker whose patience is short; it has not begun."""
    made = service_of(tmp_path, upstream)
    yield made
    made.finish(10)


def asked_by_another(service: Service, answer_id: str) -> Opened:
    """A question that another worker has written down."""
    database = service.store._database
    store = Store(database, 100, 100, Ledger(database, 1e9, lambda: "another"))
    store.ask(OWNER, None, Content("Hi"), answer_id, None)
    return Opened.now("history", OWNER, "m", 7)


def message_once_over(service: Service, answer_id: str) -> Message:
    def over() -> Message | None:
        message = service.store.answer(OWNER, answer_id)
        return None if message.status == "pending" else message

    message: Message = poll(over, 20)
    return message


@pytest.mark.parametrize("counted", [True, False], ids=["it had counted", "before its first count"])
def test_what_only_the_database_has_heard_of_ends_with_its_worker(
    service: Service, counted: bool
) -> None:
    history = asked_by_another(service, "a")
    database = service.store._database
    Ledger(database, 1e9, lambda: "another").note([history])
    if counted:
        service.event_log.beat("another")
    service.begin()
    message = message_once_over(service, "a")
    assert (message.status, message.outcome.error.code) == ("failed", "interrupted")
    poll(lambda: not service.store.ledger.writers("chatapp/"))


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "just written"])
def test_an_end_that_only_the_event_log_has_heard_of_reaches_the_message(
    service: Service, noted: bool
) -> None:
    """Its machine went down while the database was away."""
    asked_by_another(service, "a")
    log = service.event_log
    log.claim(record("a", owner=OWNER, writer="another"))
    about = service.store.answer(OWNER, "a")
    events = [
        start_event("a", about.conversation_id, "m", about.created_at),
        Event(2, EventType.TEXT, event_data({"text": "All of it."})),
        Event(3, EventType.DONE, event_data(DONE)),
    ]
    wire = b"".join(encode(event) for event in events)
    states = [State("a", 1, "done", 3)] if noted else []
    log.write("another", [Segment("a", 1, 1, 3, wire)], states, [])
    log.beat("another")
    service.begin()
    message = message_once_over(service, "a")
    assert (message.status, message.content.text) == ("done", "All of it.")


DONE = {"finish_reason": "stop", "usage": None, "usage_source": None}


@pytest.mark.parametrize(("crashes", "goes_on"), [(0, True), (4, False)])
def test_only_crashes_keep_an_answer_from_going_on(
    tmp_path: Path, upstream: FakeUpstream, crashes: int, goes_on: bool
) -> None:
    service = service_of(tmp_path, upstream, takeover="continue")
    request = msgspec.json.encode({"messages": [{"role": "user", "content": "Go on."}]})
    handed_over: Record = record(
        "a", owner=OWNER, writer=None, epoch=9, crashes=crashes, request=request, model="fake-model"
    )
    service.event_log.claim(handed_over)
    service.begin()
    status = "done" if goes_on else "failed"
    poll(lambda: (found := service.event_log.find("a")) and found.status == status, 20)
    assert len(upstream.calls) == int(goes_on)
    service.finish(10)
