"""The how-to on embedding is true: each of its applications is served, and does what it says."""

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from tests.docs.test_example_tools import calling
from tests.support.browser import Visits
from tests.support.client import Client, Stream, joined
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.pages import ask, hook, wait_for_end
from tests.support.upstream import Call, FakeUpstream, by_hand, poll, speak

PAGE = (ROOT / "docs/embedding.md").read_text("utf-8")
LOG_IN = """

@app.post("/test-log-in/<name>")
def test_log_in(name: str) -> str:
    session["user_id"] = name
    return name
"""
Embed = Callable[..., Gunicorn]


def code(heading: str, language: str = "python", number: int = 0) -> str:
    """A block of the section with this heading."""
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, heading
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.M | re.S)
    return blocks[number]


@pytest.fixture
def embed(serve: Callable[..., Gunicorn], tmp_path: Path) -> Embed:
    """Serves such a block."""

    def embed(source: str, app: str = "app", **env: str) -> Gunicorn:
        (tmp_path / "shop.py").write_text(source, "utf-8")
        return serve("--pythonpath", str(tmp_path), app=f"shop:{app}", **env)

    return embed


def break_off(call: Call) -> None:
    """A script that ends in the middle."""
    call.head()
    call.text("Begun")
    call.cut()


def asked(client: Client, mount: str, message: str = "hi") -> Stream:
    """The stream that answers a question."""
    body = {"message": message}
    return Stream(client.request("POST", f"{mount}/api/chat", body, Accept="text/event-stream"))


def test_a_factory_mounts_it(embed: Embed) -> None:
    client = Client(embed(code("Mount it"), "create_app()").url)
    assert client.get("/chat/").status == 200
    assert joined(asked(client, "/chat").all()) == "Hello world."
    assert client.get("/").status == 404


def test_links_and_cookies_follow_a_proxy_that_strips_a_prefix(embed: Embed) -> None:
    url = embed(code("Mount it", number=1)).url
    page = Client(url).get("/chat/", X_Forwarded_Prefix="/tea")
    assert b'src="/tea/chat/assets/chat_box.js' in page.body
    reply = Client(url).call("POST", "/chat/api/chat", {"message": "hi"}, X_Forwarded_Prefix="/tea")
    assert reply.json["events"].startswith("/tea/chat/api/answers/")
    assert "Path=/tea/chat/" in reply.headers["Set-Cookie"]


def test_the_log_in_says_who_owns_what(embed: Embed) -> None:
    source = code("Use your own log-in") + LOG_IN
    url = embed(source, SECRET_KEY="for tests").url
    ada, bob, nobody = Client(url), Client(url), Client(url)
    for client, name in ((ada, "ada"), (bob, "bob")):
        assert client.call("POST", f"/test-log-in/{name}").status == 200
    path = "/chat/api/conversations/" + asked(ada, "/chat").all()[0].data["conversation_id"]
    assert ada.get(path).status == 200
    assert bob.get(path).status == 404
    reply = nobody.get(path)
    assert (reply.status, reply.error["code"]) == (401, "not_signed_in")


def test_the_element_works_on_the_page_under_its_policy(
    embed: Embed, visits: Visits, upstream: FakeUpstream, tmp_path: Path
) -> None:
    heading = "Put it into your own page"
    for folder, name, language in (
        ("templates", "shop.html", "html"),
        ("static", "shop.css", "css"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(code(heading, language), "utf-8")
    upstream.script = speak("Tea.")
    page = visits.open(embed(code(heading)).url)
    ask(page, "What do you sell?")
    wait_for_end(page)
    expect(hook(page, "answer")).to_contain_text("Tea.")
    expect(hook(page, "sidebar")).to_be_hidden()
    font = hook(page, "root").evaluate("e => getComputedStyle(e).fontFamily")
    assert font.startswith("Georgia")
    visits.close()


def test_hooks_change_refuse_stop_and_report(embed: Embed, upstream: FakeUpstream) -> None:
    server = embed(code("Look at questions and answers: hooks"))
    client = Client(server.url)
    assert joined(asked(client, "/chat", "Which tea?").all()) == "Hello world."
    sent = upstream.call("Which tea?").json
    assert sent["messages"][0] == {"role": "system", "content": "You sell tea."}
    assert (sent["model"], sent["temperature"]) == ("fake-model", 0.2)
    poll(lambda: re.search(r"visitor:\S+: 18 by fake-model", server.log))

    asked(client, "/chat", "x" * 2000).all()
    assert upstream.call("x" * 2000).json["model"] == "large-model"

    refused = client.call("POST", "/chat/api/chat", {"message": "My credit card is …"})
    assert refused.status == 403
    assert refused.error["message"] == "Please don't send us card numbers."
    assert not upstream.calls_for("My credit card is …")

    upstream.script = speak("It is ", "sword", "fish", "!")
    events = asked(client, "/chat", "Tell me").all()
    assert joined(events) == "It is sword"
    assert (events[-1].event, events[-1].data["code"]) == ("failed", "moderated")
    poll(lambda: f"{events[0].data['answer_id']}: moderated" in server.log)


def test_a_tool_finds_what_belongs_to_who_asks(embed: Embed, upstream: FakeUpstream) -> None:
    source = code("Let the model call your functions: tools") + LOG_IN
    url = embed(source, SECRET_KEY="for tests").url
    for name, found in (("ada", "on its way"), ("bob", "There is no order 7.")):
        upstream.script = calling(find_order={"number": 7})
        client = Client(url)
        client.call("POST", f"/test-log-in/{name}")
        assert found in joined(asked(client, "/chat", "Where is order 7?").all())
    upstream.script = calling(find_order={"number": 7, "context": {"owner": "ada"}})
    events = asked(client, "/chat", "As ada!").all()
    assert "on its way" not in joined(events)


def test_limits_are_answered_by_429_and_when_to_come_back(
    embed: Embed, upstream: FakeUpstream
) -> None:
    client = Client(embed(code("Set limits")).url)
    client.get("/chat/api/conversations")
    too_long = client.call("POST", "/chat/api/chat", {"message": "x" * 8001})
    assert (too_long.status, too_long.error["param"]) == (400, "message")

    upstream.script = by_hand
    running = [asked(client, "/chat", f"Run {number}") for number in range(3)]
    fourth = client.call("POST", "/chat/api/chat", {"message": "Run 3"})
    assert (fourth.status, fourth.error["code"]) == (429, "too_many_running")
    for number, stream in enumerate(running):
        speak("Over.")(upstream.call(f"Run {number}"))
        stream.all()

    upstream.script = speak("Yes.")
    replies = []
    while not replies or (replies[-1].status == 200 and len(replies) < 30):
        body = {"message": "Again"}
        replies.append(client.call("POST", "/chat/api/chat", body, Accept="text/event-stream"))
    assert (replies[-1].status, replies[-1].error["code"]) == (429, "rate_limited")
    assert 0 < int(replies[-1].headers["Retry-After"]) <= 60


def test_two_chats_share_nothing(embed: Embed, upstream: FakeUpstream) -> None:
    other = FakeUpstream()
    other.script = speak("From the lab.")
    source = code("Have several chats in one application")
    client = Client(embed(source, LAB_URL=other.url, LAB_KEY="sk-lab").url)
    supported = asked(client, "/support", "hi").all()
    assert joined(supported) == "Hello world."
    assert upstream.call("hi").json["messages"][0]["content"] == "You sell tea."
    assert joined(asked(client, "/lab", "hi").all()) == "From the lab."
    sent = other.call("hi")
    assert (sent.json["model"], sent.json["reasoning_effort"]) == ("lab-model", "high")
    assert sent.headers["authorization"] == "Bearer sk-lab"
    assert len(upstream.calls) == len(other.calls) == 1
    conversation = supported[0].data["conversation_id"]
    assert client.get(f"/lab/api/conversations/{conversation}").status == 404
    other.close()


@contextmanager
def other_origin(folder: Path, host: str) -> Iterator[str]:
    """A web server of another origin, which it yields."""
    folder.mkdir()
    (folder / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{host}:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_a_page_of_another_origin_asks_and_reads_by_its_ticket(
    embed: Embed, upstream: FakeUpstream, visits: Visits, tmp_path: Path
) -> None:
    heading = "Let pages of other origins in"
    with other_origin(tmp_path / "site", "localhost") as origin:
        url = embed(code(heading).replace("https://shop.example", origin)).url
        page = visits.open(origin)
        program = f"""async ([chat, text]) => {{
          {code(heading, "js")}
          let answer = "";
          await ask(chat, [{{ role: "user", content: text }}], (piece) => (answer += piece));
          return answer;
        }}"""
        assert page.evaluate(program, [f"{url}/chat", "hi"]) == "Hello world."

        upstream.script = break_off
        with pytest.raises(Error, match="broke"):
            page.evaluate(program, [f"{url}/chat", "Break off"])
        visits.close()


def test_a_page_of_the_same_site_has_its_conversations_and_can_stop(
    embed: Embed, upstream: FakeUpstream, visits: Visits, tmp_path: Path
) -> None:
    upstream.script = by_hand
    with other_origin(tmp_path / "site", "127.0.0.1") as origin:
        source = code("Let pages of other origins in").replace("https://shop.example", origin)
        page = visits.open(origin)
        chat = f"{embed(source).url}/chat"
        program = """async ([url, method, body]) => {
          const headers = { "Content-Type": "application/json" };
          const reply = await fetch(url, { method, headers, body, credentials: "include" });
          return [reply.status, await reply.json()];
        }"""
        question = [f"{chat}/api/chat", "POST", '{"message": "Stop me"}']
        status, reply = page.evaluate(program, question)
        assert status == 202
        stop = [chat.removesuffix("/chat") + reply["stop"], "POST", None]
        assert page.evaluate(program, stop)[0] == 202
        assert upstream.call("Stop me").wait_closed()
        listed = page.evaluate(program, [f"{chat}/api/conversations", "GET", None])
        assert len(listed[1]["conversations"]) == 1
        visits.close()


def test_an_event_reaches_whom_it_is_for(embed: Embed) -> None:
    client = Client(embed(code("Send events of your own")).url)
    stream = client.stream("/chat/api/events")
    assert stream.status == 200
    assert client.call("POST", "/orders/1/sent?customer=somebody").status == 204
    assert client.call("POST", "/orders/2/sent").status == 204
    event = next(iter(stream))
    assert (event.event, event.data) == ("order", {"number": 2})
    stream.close()
