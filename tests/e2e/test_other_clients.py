"""Clients that others wrote, as their documentation uses them, and the habits that they have."""

import json
from collections.abc import Callable

import httpx
import httpx_sse
import pytest
import sseclient

from tests.support.client import Client, Sent, Stream, joined
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, poll, speak

WORDS = [f"Word {n}, “Wort” {n}.\n" for n in range(40)]
TEXT = "".join(WORDS)


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_HEARTBEAT="0.2")


def pausing(call: Call) -> None:
    """A script with pauses in which heartbeats are sent: before the text and within it."""
    call.head()
    for words in (WORDS[:20], WORDS[20:]):
        call.over.wait(0.7)
        for word in words:
            call.text(word)
    call.finish()


def test_httpx_sse(site: Site) -> None:
    """Every event that it dispatches has data, so `json()` can be called on each."""
    site.upstream.script = pausing
    body = {"message": "httpx"}
    with (
        httpx.Client(timeout=30) as client,
        httpx_sse.connect_sse(client, "POST", f"{site.url}/api/chat", json=body) as source,
    ):
        events = [Sent(each.id, each.event, each.json()) for each in source.iter_sse()]
    assert joined(events) == TEXT
    assert [each.event for each in (events[0], events[-1])] == ["start", "done"]


def test_sseclient(site: Site) -> None:
    client, answer = site.begin(pausing, "sseclient")
    stream = client.stream(answer["events"])
    received = sseclient.SSEClient(stream.blocks()).events()
    events = [Sent(each.id, each.event, json.loads(each.data)) for each in received]
    assert joined(events) == TEXT
    assert events[-1].event == "done"


class EagerReader:
    """Takes its cursor when it has read the line `id:`, as `@microsoft/fetch-event-source` does."""

    def __init__(self) -> None:
        self.cursor = ""
        self.events: list[Sent] = []

    def read(self, raw: bytes) -> None:
        """One response, as far as it came."""
        fields: dict[str, str] = {}
        for line in raw.decode(errors="ignore").split("\n")[:-1]:
            name, _, value = line.partition(": ")
            fields[name] = value
            if name == "id":
                self.cursor = value
            if not line:
                if "data" in fields:
                    name, data = fields.get("event", "message"), json.loads(fields["data"])
                    self.events.append(Sent(fields["id"], name, data))
                fields = {}


def test_a_reader_that_takes_its_cursor_early_loses_nothing_wherever_it_is_cut(site: Site) -> None:
    """But for one byte: between `id:` and the end of the event."""
    client, answer = site.begin(speak(*WORDS), "cut early")
    poll(ended(client, answer))
    raw = client.get(answer["events"]).body
    for place in range(len(raw)):
        taken = raw[:place]
        _, blank, last_line = taken[:-1].rpartition(b"\n")
        if blank and taken.endswith(b"\n") and last_line.startswith(b"id:"):
            continue
        reader = EagerReader()
        reader.read(taken)
        rest = client.stream(answer["events"], Last_Event_ID=reader.cursor).response
        with rest:
            reader.read(rest.read())
        assert joined(reader.events) == TEXT, place


class TestAQuestionSentAgainWithACursor:
    """What clients do that follow the stream of their `POST`, and repeat it when it breaks."""

    @pytest.mark.parametrize("granularity", ["token", "sentence"])
    def test_goes_on_behind_it(self, site: Site, granularity: str) -> None:
        site.upstream.script, question = speak(*WORDS, pause=0.01), f"again-by-{granularity}"
        client, events = site.visitor(), list[Sent]()
        while not events or not events[-1].is_end:
            cursor = {"Last_Event_ID": events[-1].id} if events else {}
            stream = post(client, question, granularity, Idempotency_Key=question, **cursor)
            assert stream.status == 200
            for _, event in zip(range(7), stream, strict=False):
                events.append(event)
            stream.reset()
        assert joined(events) == TEXT
        assert not any(event.event == "snapshot" for event in events)
        last = {"Last_Event_ID": events[-1].id}
        assert post(client, question, granularity, Idempotency_Key=question, **last).status == 204
        assert len(site.upstream.calls_for(question)) == 1

    def test_gets_a_snapshot_where_the_cursor_is_unknown(self, site: Site) -> None:
        site.upstream.script, key = speak(*WORDS), {"Idempotency_Key": "unknown"}
        client = site.visitor()
        post(client, "unknown", **key).all()
        events = post(client, "unknown", Last_Event_ID="no-number", **key).all()
        assert [each.event for each in events] == ["snapshot", "done"]
        assert joined(events) == TEXT

    def test_needs_its_key(self, site: Site) -> None:
        refused = post(site.visitor(), "without a key", Last_Event_ID="3")
        assert refused.status == 400
        assert json.loads(refused.response.read())["error"]["param"] == "Idempotency-Key"
        assert not site.upstream.calls_for("without a key")

    def test_is_not_asked_when_the_answer_is_gone(self, site: Site) -> None:
        """Its reader has the beginning of another answer."""
        client, key = site.visitor(), {"Idempotency_Key": "gone"}
        refused = post(client, "gone", Last_Event_ID="3", **key)
        assert refused.status == 404
        assert json.loads(refused.response.read())["error"]["code"] == "not_found"
        assert not site.upstream.calls_for("gone")
        assert client.get("/api/conversations").json["conversations"] == []
        site.upstream.script = speak("It may be asked anew.")
        assert joined(post(client, "gone", **key).all()) == "It may be asked anew."

    def test_is_another_owners_question_with_the_same_key(self, site: Site) -> None:
        site.upstream.script, key = speak(*WORDS), {"Idempotency_Key": "mine"}
        post(site.visitor(), "mine", **key).all()
        assert post(site.visitor(), "mine", Last_Event_ID="3", **key).status == 404


def post(client: Client, message: str, granularity: str = "token", **headers: str) -> Stream:
    """The stream that answers a question."""
    path = f"/api/chat?granularity={granularity}"
    accept = "text/event-stream"
    return Stream(client.request("POST", path, {"message": message}, Accept=accept, **headers))
