"""Conversations over several questions, visitors kept apart, and the push channel."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.client import Client, Sent, Stream, joined, parse_all
from tests.support.shared_server import Site, ended
from tests.support.upstream import Call, by_hand, poll, silent, speak

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site]) -> Site:
    return start_site(CHATAPP_CORS_ORIGINS=ORIGIN)


def echo(call: Call) -> None:
    """Answers with the question, so that histories are easy to tell."""
    speak(f"re: {call.prompt}")(call)


def ask(client: Client, message: str | None, **fields: Any) -> dict[str, Any]:
    """Ask and read to the end; the start event's data."""
    body = {"message": message, **fields} if message else fields
    reply = client.call("POST", "/api/chat", body, Accept="text/event-stream")
    assert reply.status == 200, reply.body
    start, *_, end = parse_all(reply.body)
    assert end.event == "done"
    fields_of_start: dict[str, Any] = start.data
    return fields_of_start


def turns(*texts: str) -> list[dict[str, str]]:
    """A history in OpenAI's form."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def shown(client: Client, conversation: str) -> list[dict[str, str]]:
    messages = client.get(f"/api/conversations/{conversation}").json["messages"]
    return [{"role": each["role"], "content": each["content"]} for each in messages]


def test_a_second_question_carries_the_history(site: Site) -> None:
    site.upstream.script = echo
    client = site.visitor()
    conversation = ask(client, "the first question")["conversation_id"]
    ask(client, "the second one", conversation_id=conversation)
    assert site.upstream.call("the first question").json["messages"] == turns("the first question")
    history = turns("the first question", "re: the first question", "the second one")
    assert site.upstream.call("the second one").json["messages"] == history
    assert shown(client, conversation) == [*history, *turns("", "re: the second one")[1:]]
    listed = client.get("/api/conversations").json["conversations"]
    assert [(each["id"], each["title"]) for each in listed] == [
        (conversation, "the first question")
    ]


def test_a_deleted_conversation_takes_its_answers_with_it(site: Site) -> None:
    """Also one that waits for its upstream, which is closed."""
    site.upstream.script = silent
    client = site.visitor()
    asked = client.ask("delete me")
    conversation = asked["answer"]["conversation_id"]
    call = site.upstream.call("delete me")
    assert client.call("DELETE", f"/api/conversations/{conversation}").status == 204
    assert call.wait_closed()
    assert client.get(asked["events"]).status == 404
    assert client.get(f"/api/conversations/{conversation}").status == 404


def test_an_answer_may_be_written_again(site: Site) -> None:
    """The new one takes the old one's place; the old one is not sent upstream."""
    site.upstream.script = speak("first try")
    client = site.visitor()
    start = ask(client, "again")
    site.upstream.script = speak("second try")
    second = ask(client, None, regenerate=start["answer_id"])
    assert second["answer_id"] != start["answer_id"]
    assert second["conversation_id"] == start["conversation_id"]
    assert site.upstream.call("again").json["messages"] == turns("again")
    assert shown(client, start["conversation_id"]) == turns("again", "second try")
    assert client.get(f"/api/answers/{start['answer_id']}").json["text"] == "first try"


def test_after_an_answer_that_was_stopped_before_its_first_word_roles_still_alternate(
    site: Site,
) -> None:
    """Templates that demand it would refuse this conversation for ever."""
    site.upstream.script = silent
    client = site.visitor()
    asked = client.ask("stopped early")
    site.upstream.call("stopped early")
    client.call("POST", asked["stop"])
    site.upstream.script = echo
    conversation = asked["answer"]["conversation_id"]
    client.call("PATCH", f"/api/conversations/{conversation}", {"settings": {"system_prompt": "S"}})
    ask(client, "asked anew", conversation_id=conversation)
    ask(client, "and on", conversation_id=conversation)
    joined_question = "stopped early\n\nasked anew"
    assert site.upstream.call("and on").json["messages"] == [
        {"role": "system", "content": "S"},
        *turns(joined_question, f"re: {joined_question}", "and on"),
    ]


def test_after_a_failed_second_answer_the_model_is_told_the_first(site: Site) -> None:
    site.upstream.script = echo
    client = site.visitor()
    start = ask(client, "well answered")
    site.upstream.script = by_hand
    again = client.call("POST", "/api/chat", {"regenerate": start["answer_id"]}).json
    call = site.upstream.call("well answered")
    call.head()
    call.text("half")
    call.cut()
    assert client.stream(again["events"]).all()[-1].event == "failed"
    site.upstream.script = echo
    ask(client, "and further", conversation_id=start["conversation_id"])
    history = turns("well answered", "re: well answered", "and further")
    assert site.upstream.call("and further").json["messages"] == history


def test_a_question_may_be_edited(site: Site) -> None:
    """What followed it is replaced, what came before stays."""
    site.upstream.script = echo
    client = site.visitor()
    conversation = ask(client, "edit 1")["conversation_id"]
    ask(client, "edit 2", conversation_id=conversation)
    messages = client.get(f"/api/conversations/{conversation}").json["messages"]
    ask(client, "edit 2b", conversation_id=conversation, edit=messages[2]["id"])
    history = turns("edit 1", "re: edit 1", "edit 2b")
    assert site.upstream.call("edit 2b").json["messages"] == history
    assert shown(client, conversation) == [*history, *turns("", "re: edit 2b")[1:]]
    ask(client, "edit 1b", conversation_id=conversation, edit=messages[0]["id"])
    assert shown(client, conversation) == turns("edit 1b", "re: edit 1b")


def test_a_whole_history_is_sent_as_it_is_and_kept_nowhere(site: Site) -> None:
    site.upstream.script = echo
    client = site.visitor()
    messages = [{"role": "system", "content": "Be brief."}, *turns("a", "b", "stateless")]
    start = ask(client, None, messages=messages)
    assert start["conversation_id"] is None
    assert site.upstream.call("stateless").json["messages"] == messages
    assert client.get("/api/conversations").json["conversations"] == []
    snapshot = client.get(f"/api/answers/{start['answer_id']}").json
    assert snapshot["text"] == "re: stateless"


def test_a_conversation_has_one_running_answer(site: Site) -> None:
    client, answer = site.begin(by_hand, "busy")
    conversation = answer["answer"]["conversation_id"]
    body = {"message": "meanwhile", "conversation_id": conversation}
    reply = client.call("POST", "/api/chat", body)
    assert (reply.status, reply.error["code"]) == (409, "conflict")
    assert site.upstream.calls_for("meanwhile") == []
    client.call("POST", answer["stop"])
    poll(ended(client, answer))


def others_requests(answer: dict[str, Any], question: str) -> list[tuple[str, str, Any]]:
    """Everything that names something of a visitor's."""
    path, conversation = answer["events"][: -len("/events")], answer["answer"]["conversation_id"]
    at_conversation = f"/api/conversations/{conversation}"
    return [
        ("GET", path, None),
        ("GET", answer["events"], None),
        ("GET", f"{answer['events']}?last_event_id=99999", None),
        ("HEAD", answer["events"], None),
        ("POST", answer["stop"], None),
        ("GET", at_conversation, None),
        ("PATCH", at_conversation, {"title": "mine"}),
        ("DELETE", at_conversation, None),
        ("POST", "/api/chat", {"message": "intruder", "conversation_id": conversation}),
        ("POST", "/api/chat", {"regenerate": answer["answer"]["id"]}),
        (
            "POST",
            "/api/chat",
            {"message": "intruder", "conversation_id": conversation, "edit": question},
        ),
    ]


def test_what_belongs_to_somebody_else_is_not_found(site: Site) -> None:
    """While it runs and afterwards, and exactly like what does not exist."""
    owner, answer = site.begin(by_hand, "a private question")
    call = site.upstream.call("a private question")
    call.head()
    stranger, nobody = site.visitor(), Client(site.url)
    conversation = answer["answer"]["conversation_id"]
    question = owner.get(f"/api/conversations/{conversation}").json["messages"][0]["id"]
    requests = others_requests(answer, question)
    for over in (False, True):
        if over:
            call.text("secret text")
            call.finish()
            poll(ended(owner, answer))
        for method, path, body in requests:
            replies = [client.call(method, path, body) for client in (stranger, nobody)]
            absent = path.replace(answer["answer"]["id"], "x" * 16).replace(conversation, "y" * 16)
            replies.append(stranger.call(method, absent, body))
            assert [reply.status for reply in replies] == [404] * 3, (method, path)
            if method != "HEAD":
                assert len({reply.body for reply in replies}) == 1
    assert site.upstream.calls_for("intruder") == []
    assert len(site.upstream.calls_for("a private question")) == 1
    assert owner.get(f"/api/conversations/{conversation}").json["title"] == "a private question"
    assert joined(owner.stream(answer["events"]).all()) == "secret text"


def test_branches_are_kept_and_the_one_that_is_chosen_goes_on(site: Site) -> None:
    """Its siblings are named; what is shown is what goes upstream."""
    site.upstream.script = echo
    client = site.visitor()
    conversation = ask(client, "branch 1")["conversation_id"]
    path = f"/api/conversations/{conversation}"
    first, answer = client.get(path).json["messages"]
    assert (first["parent"], first["siblings"]) == (None, [first["id"]])
    assert answer["parent"] == first["id"]
    ask(client, "branch 1b", conversation_id=conversation, edit=first["id"])
    edited = client.get(path).json["messages"][0]
    assert edited["siblings"] == [first["id"], edited["id"]]
    changed = client.call("PATCH", path, {"leaf": first["id"]})
    assert (changed.status, changed.json["id"]) == (200, conversation)
    assert shown(client, conversation) == turns("branch 1", "re: branch 1")
    ask(client, "branch 2", conversation_id=conversation)
    history = turns("branch 1", "re: branch 1", "branch 2")
    assert site.upstream.call("branch 2").json["messages"] == history
    for absent in ("x", edited["id"].swapcase()):
        assert client.call("PATCH", path, {"leaf": absent}).error["param"] == "leaf"


def test_no_other_branch_is_chosen_while_an_answer_runs(site: Site) -> None:
    client, answer = site.begin(by_hand, "busy branch")
    path = f"/api/conversations/{answer['answer']['conversation_id']}"
    question = client.get(path).json["messages"][0]["id"]
    reply = client.call("PATCH", path, {"leaf": question})
    assert (reply.status, reply.error["code"]) == (409, "conflict")
    assert client.call("PATCH", path, {"title": "still possible"}).status == 200
    client.call("POST", answer["stop"])
    poll(ended(client, answer))
    assert client.call("PATCH", path, {"leaf": question}).status == 200


def test_a_conversation_has_settings_of_its_own_for_its_answers(site: Site) -> None:
    """A question may have others; what is removed goes nowhere."""
    site.upstream.script = echo
    client = site.visitor()
    settings = {"temperature": 0.25, "max_tokens": 99, "system_prompt": "Rhyme."}
    made = client.call("POST", "/api/conversations", {"settings": settings | {"top_p": None}})
    assert (made.status, made.json["settings"]) == (201, settings)
    path = f"/api/conversations/{made.json['id']}"
    ask(client, "with settings", conversation_id=made.json["id"], max_tokens=5)
    sent = site.upstream.call("with settings").json
    assert sent["messages"] == [{"role": "system", "content": "Rhyme."}, *turns("with settings")]
    assert sent["temperature"] == 0.25
    assert 5 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    channel = Channel(client)
    changed = client.call("PATCH", path, {"settings": {"system_prompt": None, "top_p": 1}})
    assert changed.json["settings"] == {"temperature": 0.25, "max_tokens": 99, "top_p": 1}
    assert client.get(path).json["settings"] == changed.json["settings"]
    told = next(e for e in channel.events if e.data["action"] == "changed")
    assert told.data["id"] == made.json["id"]
    channel.close()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "title"),
        ({"title": " "}, "title"),
        ({"leaf": 5}, "leaf"),
        ({"leaf": "a b"}, "leaf"),
        ({"settings": []}, "settings"),
        ({"settings": {"temperature": 3}}, "temperature"),
        ({"settings": {"max_tokens": 1.5}}, "max_tokens"),
        ({"settings": {"reasoning_effort": "HIGH"}}, "reasoning_effort"),
        ({"settings": {"model": ""}}, "model"),
        ({"settings": {"system_prompt": "x" * 200_001}}, "system_prompt"),
        ({"settings": {"system_prompt": 1}}, "system_prompt"),
        ({"settings": {"seed": 1}}, "seed"),
        ({"settings": {"message": "x"}}, "message"),
        ({"owner": "x"}, "owner"),
    ],
)
def test_a_change_that_is_none_is_refused_and_changes_nothing(
    site: Site, body: dict[str, Any], param: str
) -> None:
    client = site.visitor()
    made = client.call("POST", "/api/conversations", {"title": "as it was"}).json
    path = f"/api/conversations/{made['id']}"
    reply = client.call("PATCH", path, body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert client.get(path).json == made | {"messages": []}


def test_conversations_are_found_by_what_was_said_page_by_page(site: Site) -> None:
    site.upstream.script = echo
    client = site.visitor()
    made = [ask(client, f"Where is Ömer, number {n}?")["conversation_id"] for n in range(3)]
    ask(client, "something else altogether")
    found: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/api/conversations?limit=2&q=%C3%B6mer{cursor}").json
        found += [each["id"] for each in page["conversations"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == made[::-1]
    by_answer = client.get("/api/conversations?q=RE%3A%20something").json["conversations"]
    assert len(by_answer) == 1
    assert client.get("/api/conversations?q=%25").json["conversations"] == []
    too_long = client.get(f"/api/conversations?q={'x' * 201}")
    assert (too_long.status, too_long.error["param"]) == (400, "q")


class Channel:
    """A visitor's open push channel."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.stream: Stream = client.stream("/api/events", **headers)
        self.events: Iterator[Sent] = iter(self.stream)

    def take(self, count: int) -> list[Sent]:
        return [next(self.events) for _ in range(count)]

    def close(self) -> None:
        self.stream.close()


def story(events: list[Sent]) -> list[tuple[str, str, str]]:
    return [(each.event, each.data["action"], each.data["id"]) for each in events]


def test_push_tells_each_visitor_of_what_is_theirs(site: Site) -> None:
    """And of nothing else: the first that a stranger hears is their own."""
    site.upstream.script = echo
    client, stranger = site.visitor(), site.visitor()
    channels = [Channel(client), Channel(client)]
    strangers = Channel(stranger)
    start = ask(client, "tell my other pages")
    conversation, answer = start["conversation_id"], start["answer_id"]
    client.call("PATCH", f"/api/conversations/{conversation}", {"title": "New"})
    client.call("DELETE", f"/api/conversations/{conversation}")
    theirs = ask(stranger, "tell my pages, too")
    expected = [
        ("conversation", "created", conversation),
        ("answer", "started", answer),
        ("answer", "finished", answer),
        ("conversation", "renamed", conversation),
        ("conversation", "deleted", conversation),
    ]
    for channel in channels:
        events = channel.take(5)
        assert sorted(story(events)) == sorted(expected)
        assert story(events)[-2:] == expected[-2:]
        finished = next(e for e in events if e.data["action"] == "finished")
        assert finished.data["status"] == "done"
        assert finished.data["conversation_id"] == conversation
        channel.close()
    assert strangers.take(1)[0].data["id"] == theirs["conversation_id"]
    strangers.close()


def test_push_brings_what_was_missed(site: Site) -> None:
    """Exactly once, after the last event that the page has; by header or by query."""
    site.upstream.script = echo
    client = site.visitor()
    channel = Channel(client)
    first = ask(client, "missed question 1")
    seen = channel.take(3)
    channel.stream.reset()
    second = ask(client, "missed question 2")
    again = Channel(client, Last_Event_ID=seen[-1].id)
    later = again.take(3)
    again.close()
    by_query = client.stream(f"/api/events?last_event_id={seen[-1].id}")
    assert [next(iter(by_query))] == later[:1]
    by_query.close()
    assert {event.data["id"] for event in seen} == {first["conversation_id"], first["answer_id"]}
    assert {event.data["id"] for event in later} == {second["conversation_id"], second["answer_id"]}
    ids = [event.id for event in (*seen, *later)]
    assert len(set(ids)) == 6


def test_push_without_a_cursor_begins_with_what_comes_now(site: Site) -> None:
    site.upstream.script = echo
    client = site.visitor()
    earlier = Channel(client)
    ask(client, "before the channel")
    earlier.take(3)
    earlier.close()
    channel = Channel(client)
    now = ask(client, "now, with a channel")
    assert channel.take(1)[0].data["id"] in (now["conversation_id"], now["answer_id"])
    channel.close()


def test_push_begins_at_once(site: Site) -> None:
    """The first bytes come though nothing has been published."""
    stream = site.visitor().stream("/api/events")
    assert next(stream.blocks()) == b"retry: 1000\n"
    stream.close()


def test_only_the_origins_that_are_allowed_may_read(site: Site) -> None:
    client = site.visitor()
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
        stream = client.stream("/api/events", Origin=origin)
        stream.close()
        assert stream.headers["Access-Control-Allow-Origin"] == allowed
        credentials = "true" if allowed else None
        assert stream.headers["Access-Control-Allow-Credentials"] == credentials
        assert "Origin" in stream.headers["Vary"]


def test_a_preflight_is_answered_for_allowed_origins_only(site: Site) -> None:
    client = site.visitor()
    asks = {"Access_Control_Request_Method": "POST"}
    reply = client.call("OPTIONS", "/api/chat", Origin=ORIGIN, **asks)
    assert reply.status == 204
    assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    for name in ("Content-Type", "Idempotency-Key", "Last-Event-ID"):
        assert name in reply.headers["Access-Control-Allow-Headers"]
    refused = client.call("OPTIONS", "/api/chat", Origin="https://evil.example", **asks)
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_another_site_can_start_nothing(site: Site) -> None:
    """A browser says where a request comes from."""
    site.upstream.script = echo
    client = site.visitor()
    headers = {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"}
    reply = client.call("POST", "/api/chat", {"message": "from outside"}, **headers)
    assert (reply.status, reply.error["code"]) == (403, "cross_site")
    assert site.upstream.calls_for("from outside") == []
    allowed = headers | {"Origin": ORIGIN}
    reply = client.call("POST", "/api/chat", {"message": "from a friend"}, **allowed)
    assert reply.status == 202
    poll(ended(client, reply.json))
