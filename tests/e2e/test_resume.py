"""A lost connection costs nothing: cut after any byte and resumed, an answer's text is the same."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.client import Client, Sent, joined, parse_all
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, by_hand, poll

PLACES = 200
GRANULARITIES = ("token", "word", "sentence", "full")
TEXT = """Dr. Smith paid $3.50 at 5 p.m. for "the best tea." Then he left! Or did he? … He did.

你好，世界！今天天气怎么样？“很好。”他说。版本3.14已经发布了。
Mixed 中英文 text：GPU 的价格是 1,299.00 元。

Emoji: 👩‍👩‍👧‍👦 family, 🇨🇳 flag, 👍🏽 thumb, naïve café, e\u0301,
U+2028:\u2028here, U+0085:\u0085there.

```python
def f(x: float) -> str:
    # No sentence. Ends here! 不在这里。
    return f"{x:.2f}\\n" if x else "data: \\r\\n\\nid: 7"
```

1. One item. Two sentences!
2. 第二项。还有一句？

| a | b |
|---|---|
| 1. | 二。 |

The end. 完。🎉"""


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site()


def said_in_pieces(seed: int, pause: float = 0.0) -> Callable[[Call], None]:
    """A script that says TEXT, cut anywhere: between chunks, and its bytes between packets."""

    def script(call: Call) -> None:
        call.head()
        chance = random.Random(seed)
        at = 0
        while at < len(TEXT):
            size = chance.choice((1, 1, 2, 3, 5, 12))
            call.text(TEXT[at : at + size])
            at += size
            if pause:
                call.over.wait(pause)
        call.finish()

    return script


def cut_after(client: Client, path: str, size: int, **headers: str) -> bytes:
    """The first `size` bytes of a stream's body; then the connection is broken."""
    stream = client.stream(path, **headers)
    assert stream.status == 200
    taken = b""
    while len(taken) < size and (block := stream.response.read1(size - len(taken))):
        taken += block
    stream.reset()
    return taken


def cursor_of(events: list[Sent]) -> dict[str, str]:
    """The header by which a client that has these events resumes."""
    return {"Last_Event_ID": events[-1].id} if events else {}


@pytest.fixture(scope="module")
def told(site: Site) -> tuple[Client, dict[str, Any]]:
    """An answer that is over, and who has asked for it."""
    client, answer = site.begin(said_in_pieces(1), "tell it")
    poll(ended(client, answer))
    return client, answer


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_cut_after_any_byte_of_a_recorded_stream(
    site: Site, told: tuple[Client, dict[str, Any]], granularity: str
) -> None:
    """At 200 random places: the rest joins on without a gap or a repetition; one request."""
    client, answer = told
    path = f"{answer['events']}?granularity={granularity}"
    stream = client.stream(path)
    uncut, raw = stream.all(), stream.raw
    assert joined(uncut) == TEXT
    places = random.Random(granularity).sample(range(len(raw) + 1), PLACES)
    for number, place in enumerate(places):
        if number % 4:
            received = raw[:place]
        else:
            received = cut_after(client, path, place)
            assert received == raw[:place]
        events = parse_all(received)
        resumed = client.stream(path, **cursor_of(events))
        if events and events[-1].is_end:
            assert resumed.status == 204
        rest = resumed.all()
        assert events + rest == uncut, f"cut after byte {place}"
    assert len(site.upstream.calls_for("tell it")) == 1


def test_granularity_may_change_at_any_cut(site: Site, told: tuple[Client, dict[str, Any]]) -> None:
    client, answer = told
    chance = random.Random(7)
    for _ in range(60):
        first, second = chance.choices(GRANULARITIES, k=2)
        whole = client.get(f"{answer['events']}?granularity={first}").body
        events = parse_all(whole[: chance.randrange(len(whole) - 200)])
        path = f"{answer['events']}?granularity={second}"
        events += client.stream(path, **cursor_of(events)).all()
        assert joined(events) == TEXT
        assert events[-1].event == "done"
    assert len(site.upstream.calls_for("tell it")) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_running_answer_survives_one_cut_after_another(site: Site, seed: int) -> None:
    """Its connections break after random bytes, each with another granularity."""
    question = f"tell it live {seed}"
    client, answer = site.begin(said_in_pieces(seed, 0.001), question)
    chance = random.Random(seed)
    events: list[Sent] = []
    while not (events and events[-1].is_end):
        path = f"{answer['events']}?granularity={chance.choice(GRANULARITIES)}"
        received = cut_after(client, path, chance.randrange(3000), **cursor_of(events))
        events += parse_all(received)
    assert joined(events) == TEXT
    assert [event.event for event in events].count("start") == 1
    numbers = [int(event.id) for event in events]
    assert numbers == sorted(set(numbers))
    assert len(site.upstream.calls_for(question)) == 1


def test_the_post_itself_may_be_cut_and_resumed(site: Site) -> None:
    """The id of the answer is in the reply's head, before any event."""
    site.upstream.script = said_in_pieces(3, 0.001)
    client = site.visitor()
    for size in (0, 1, 20, 200, 900):
        stream = client.ask_streaming(f"cut post {size}")
        answer = stream.headers["X-Answer-Id"]
        received = stream.response.read1(size) if size else b""
        stream.close()
        events = parse_all(received)
        events += client.stream(f"/api/answers/{answer}/events", **cursor_of(events)).all()
        assert joined(events) == TEXT
        assert len(site.upstream.calls_for(f"cut post {size}")) == 1


def test_the_cursor_may_be_in_the_query_and_the_header_wins(
    told: tuple[Client, dict[str, Any]],
) -> None:
    client, answer = told
    by_query = client.stream(f"{answer['events']}?last_event_id=10").all()
    by_header = client.stream(answer["events"], Last_Event_ID="10").all()
    assert by_query == by_header
    assert by_query[0].id == "11"
    both = client.stream(f"{answer['events']}?last_event_id=3", Last_Event_ID="10").all()
    assert both == by_header


def test_no_cursor_means_from_the_start(told: tuple[Client, dict[str, Any]]) -> None:
    client, answer = told
    for path in (answer["events"], f"{answer['events']}?last_event_id="):
        events = client.stream(path).all()
        assert (events[0].id, events[0].event) == ("1", "start")


def test_at_or_past_the_end_there_is_nothing_to_follow(
    told: tuple[Client, dict[str, Any]],
) -> None:
    """204, by which an `EventSource` stops for good."""
    client, answer = told
    last = int(client.stream(answer["events"]).all()[-1].id)
    for cursor in (last, last + 1, 10**17):
        reply = client.get(answer["events"], Last_Event_ID=str(cursor))
        assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "1 2", "9" * 30, "٣", "0x10", "1\t"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_cursor_that_was_never_ours_gets_a_snapshot(
    told: tuple[Client, dict[str, Any]], cursor: str, granularity: str
) -> None:
    """Nobody knows what that client has, so it gets everything, and then the end."""
    client, answer = told
    sent = cursor.encode().decode("latin-1")
    path = f"{answer['events']}?granularity={granularity}"
    events = client.stream(path, Last_Event_ID=sent).all()
    if cursor == "1\t":  # [RFC 9110, 5.5] space around a header's value is none of it
        assert joined(events) == TEXT
        return
    assert [event.event for event in events] == ["snapshot", "done"]
    assert events[0].data == {"text": TEXT, "reasoning": "", "status": "done"}
    # Also a cut behind the snapshot is made good.
    assert client.stream(path, **cursor_of(events[:1])).all() == events[1:]


def test_a_cursor_ahead_of_a_running_answer_gets_a_snapshot_and_what_follows(site: Site) -> None:
    client, answer = site.begin(by_hand, "ahead")
    call = site.upstream.call("ahead")
    call.head()
    call.text("One. ")
    path = f"/api/answers/{answer['answer']['id']}"
    poll(lambda: client.get(path).json["text"] == "One. ")
    stream = client.stream(answer["events"], Last_Event_ID="99")
    events = iter(stream)
    seen = [next(events)]
    assert seen[0].event == "snapshot"
    assert seen[0].data == {"text": "One. ", "reasoning": "", "status": "streaming"}
    call.text("Two.")
    call.finish()
    seen += events
    stream.close()
    assert joined(seen) == "One. Two."
    assert seen[-1].event == "done"


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_trimmed_log_gives_a_snapshot_and_then_goes_on_live(
    trimming: Site, granularity: str
) -> None:
    question = f"trimmed {granularity}"
    client, answer = trimming.begin(by_hand, question)
    path = f"/api/answers/{answer['answer']['id']}"
    call = trimming.upstream.call(question)
    call.head()
    for at in range(0, len(TEXT), 10):
        call.text(TEXT[at : at + 10])
    poll(lambda: client.get(path).json["text"] == TEXT)
    stream = client.stream(f"{answer['events']}?granularity={granularity}", Last_Event_ID="2")
    events = iter(stream)
    seen = [next(events)]
    assert seen[0].event == "snapshot"
    assert seen[0].data["text"] == TEXT
    call.text(" And more.")
    call.finish()
    seen += events
    stream.close()
    assert joined(seen) == TEXT + " And more."
    assert seen[-1].event == "done"
    fresh = client.stream(answer["events"]).all()
    assert [event.event for event in fresh] == ["start", "snapshot", "done"]
    assert joined(fresh) == TEXT + " And more."


@pytest.fixture(scope="module")
def trimming(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_LOG_MAX_BYTES="1024")


def test_a_trimmed_log_is_still_exact_for_cursors_that_it_reaches(trimming: Site) -> None:
    client, answer = trimming.begin(said_in_pieces(5), "reaches")
    snapshot = poll(ended(client, answer))
    cursor = str(snapshot["last_event"] - 3)
    events = client.stream(answer["events"], Last_Event_ID=cursor).all()
    assert len(events) == 3
    assert events[-1].event == "done"
    assert TEXT.endswith(joined(events))


@pytest.fixture(scope="module")
def forgetting(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_ANSWER_AGE="0.1")


def forgotten(client: Client, answer: dict[str, Any]) -> bool:
    """Whether the log is gone: a reader then gets a snapshot behind the start."""
    events = client.stream(answer["events"]).all()
    return [event.event for event in events][:2] == ["start", "snapshot"]


def test_an_answer_whose_log_is_gone_gives_a_snapshot_and_its_end(forgetting: Site) -> None:
    client, answer = forgetting.begin(said_in_pieces(6), "forgotten")
    path = f"/api/answers/{answer['answer']['id']}"
    poll(ended(client, answer))
    poll(lambda: forgotten(client, answer))
    for headers in ({}, {"Last_Event_ID": "4"}, {"Last_Event_ID": "x"}):
        stream = client.stream(answer["events"], **headers)
        assert "content-length" not in stream.response.headers
        events = stream.all()
        assert stream.raw.startswith(b"retry: 1000\n")
        start = [] if headers else ["start"]
        assert [event.event for event in events] == [*start, "snapshot", "done"]
        assert events[-2].data == {"text": TEXT, "reasoning": "", "status": "done"}
        assert events[-1].data["finish_reason"] == "stop"
    resumed = events[:1] + client.stream(answer["events"], **cursor_of(events[:1])).all()
    assert joined(resumed) == TEXT
    assert resumed[-1] == events[-1]
    assert client.get(answer["events"], **cursor_of(events)).status == 204
    assert client.get(path).json["text"] == TEXT
    assert len(forgetting.upstream.calls_for("forgotten")) == 1


def test_a_failed_answer_whose_log_is_gone_still_says_why(forgetting: Site) -> None:
    def script(call: Call) -> None:
        call.head()
        call.text("So far.")
        call.cut()

    client, answer = forgetting.begin(script, "failed and forgotten")
    poll(ended(client, answer))
    poll(lambda: forgotten(client, answer))
    events = client.stream(answer["events"]).all()
    assert [event.event for event in events] == ["start", "snapshot", "failed"]
    assert joined(events) == "So far."
    assert events[-1].data["code"] == "upstream_cut"


def test_a_reader_of_an_answer_that_is_forgotten_meanwhile_gets_all_of_it(
    forgetting: Site,
) -> None:
    forgetting.upstream.script = said_in_pieces(8)
    events = forgetting.visitor().ask_streaming("read while it is forgotten").all()
    assert joined(events) == TEXT
    assert events[-1].event == "done"


def test_an_answer_without_a_conversation_is_gone_with_its_log(forgetting: Site) -> None:
    forgetting.upstream.script = said_in_pieces(9)
    client = forgetting.visitor()
    body = {"messages": [{"role": "user", "content": "stateless"}]}
    answer = client.call("POST", "/api/chat", body).json
    poll(lambda: client.get(answer["events"]).status == 404)
    assert client.get(answer["events"]).error["code"] == "not_found"
