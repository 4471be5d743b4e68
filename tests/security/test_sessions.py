"""Who has signed out, was disconnected or is forgotten gets nothing more, in any worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatapp.answers import sse
from tests.support.client import Client, Stream
from tests.support.embedded_app import Served
from tests.support.upstream import Call, poll, speak

SOURCE = """
from flask import Flask, request, session
from chatapp import ChatApp

app = Flask(__name__)
app.secret_key = "the host's own secret"
chat = ChatApp(app, url_prefix="/chat")


@chat.owner
def who():
    return session.get("user")


@app.get("/in/<user>")
def log_in(user):
    session["user"] = user
    return "in"


@app.get("/out")
def log_out():
    chat.disconnect(session.pop("user"))
    return "out"


@app.get("/leave")
def leave():
    session.clear()
    return "out"


@app.get("/forget/<user>")
def forget(user):
    chat.forget(user)
    return "gone"


@app.get("/publish/<user>/<event>")
def publish(user, event):
    chat.publish(event, 1, to=user)
    return "sent"
"""


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    # The kernel spreads connections over the workers.
    served = Served(
        tmp_path, SOURCE, "-w", str(request.param), CHATAPP_STREAM_AGE="0", CHATAPP_HEARTBEAT="0.2"
    )
    yield served
    served.close()
    assert "Traceback" not in served.server.log, served.server.log


def signed_in(site: Served, user: str) -> Client:
    client = Client(site.url)
    assert client.get(f"/in/{user}").status == 200
    return client


def pages(client: Client, count: int = 6) -> list[Stream]:
    """Open pages' push streams, which have begun; with several workers, some on each."""
    streams = [client.stream("/chat/api/events") for _ in range(count)]
    for stream in streams:
        assert stream.status == 200
        next(stream.blocks())
    return streams


def rest_of(stream: Stream) -> bytes:
    """What comes until the stream ends."""
    before = len(stream.raw)
    for _ in stream.blocks():
        pass
    assert stream.ended_cleanly
    stream.response.close()
    return stream.raw[before:]


class TestDisconnect:
    def test_ends_every_open_page_of_the_owner_in_every_worker(self, site: Served) -> None:
        ada, bob = signed_in(site, "ada"), signed_in(site, "bob")
        streams, others = pages(ada), pages(bob, 1)
        assert ada.get("/out").status == 200
        for stream in streams:
            assert rest_of(stream).endswith(sse.COME_BACK)
        assert ada.get("/chat/api/events").error["code"] == "not_signed_in"
        assert bob.get("/publish/bob/still").status == 200
        assert any(b"event: still" in block for block in others[0].blocks())
        others[0].response.close()

    def test_ends_what_follows_an_answer(self, site: Served) -> None:
        ada = signed_in(site, "ada")

        def slow(call: Call) -> None:
            call.head()
            call.text("One")
            call.wait_closed(60)

        site.scripts["Hi"] = slow
        reply = ada.call("POST", "/chat/api/chat", {"message": "Hi"})
        path = f"/chat/api/answers/{reply.json['answer']['id']}/events"
        streams = [ada.stream(path) for _ in range(4)]
        for stream in streams:
            next(stream.blocks())
        assert ada.get("/out").status == 200
        for stream in streams:
            assert rest_of(stream).endswith(sse.COME_BACK)


class TestForget:
    def test_ends_every_open_page_and_keeps_no_events(self, site: Served) -> None:
        ada = signed_in(site, "ada")
        streams = pages(ada)
        ada.call("POST", "/chat/api/conversations", {"title": "A secret title"})
        assert ada.get("/publish/ada/secret").status == 200
        for stream in streams:
            while b"event: secret" not in stream.raw:
                next(stream.blocks())
        assert ada.get("/forget/ada").status == 200
        for stream in streams:
            assert rest_of(stream).endswith(sse.COME_BACK)
        for stream in [ada.stream("/chat/api/events", Last_Event_ID="1") for _ in range(4)]:
            assert ada.get("/publish/ada/later").status == 200
            seen = b""
            for block in stream.blocks():
                seen += block
                if b"event: later" in seen:
                    break
            assert b"secret" not in seen
            stream.response.close()

    def test_leaves_only_pseudonymous_accounting(self, site: Served) -> None:
        ada = signed_in(site, "ada-lovelace")
        for body in (
            {"message": "My name is Ada Lovelace"},
            {"messages": [{"role": "user", "content": "My name is Ada Lovelace"}]},
        ):
            reply = ada.call("POST", "/chat/api/chat", body)
            assert reply.status == 202
            ada.get(f"/chat/api/answers/{reply.json['answer']['id']}/events")
            site.wait_until_written(reply.json["answer"]["id"])
        assert ada.get("/forget/ada-lovelace").status == 200
        poll(lambda: not site.rows("SELECT 1 FROM chatapp_answers"))
        tables = [
            name for (name,) in site.rows("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        left = {
            name: site.rows(f"SELECT * FROM {name}")
            for name in tables
            if "publications" not in name
        }
        assert "ada-lovelace" not in repr(left)
        assert "Lovelace" not in repr(left)
        query = "SELECT owner FROM chatapp_calls WHERE outcome = 'done'"
        calls = poll(lambda: len(found := site.rows(query)) == 2 and found)
        assert len(set(calls)) == 1


class TestAge:
    """Streams end after a time, and their clients show anew who they are."""

    def test_a_page_of_somebody_who_has_left_ends(self, tmp_path: Path) -> None:
        site = Served(tmp_path, SOURCE, CHATAPP_STREAM_AGE="0.5")
        try:
            ada = signed_in(site, "ada")
            (stream,) = pages(ada, 1)
            assert ada.get("/leave").status == 200
            assert rest_of(stream).endswith(sse.COME_BACK)
            assert ada.get("/chat/api/events").status == 401
        finally:
            site.close()

    def test_an_answer_is_read_to_its_end_over_many_streams(self, tmp_path: Path) -> None:
        site = Served(tmp_path, SOURCE, CHATAPP_STREAM_AGE="0.2")
        words = [f" word{n}" for n in range(20)]
        try:
            site.scripts["Hi"] = speak(*words, pause=0.1)
            ada = signed_in(site, "ada")
            reply = ada.call("POST", "/chat/api/chat", {"message": "Hi"})
            path = f"/chat/api/answers/{reply.json['answer']['id']}/events"
            text, last, streams = "", "0", 0
            while True:
                stream = ada.stream(path, Last_Event_ID=last)
                if stream.status == 204:
                    break
                streams += 1
                for event in stream:
                    last = event.id
                    text += event.data["text"] if event.event == "message" else ""
            assert text == "".join(words)
            assert streams > 1
        finally:
            site.close()
