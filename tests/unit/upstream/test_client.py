"""What is asked of an OpenAI-compatible server, and what its refusal or silence becomes."""

import email.utils
import socket
import threading
import time
from typing import Any

import pytest

from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError, UpstreamUnconfigured
from chatapp.settings import Settings
from chatapp.upstream.client import OPENAI_DEFAULT_MODEL, Upstream
from chatapp.upstream.transport import Cancellation, StockTransport
from tests.support import upstream_client
from tests.support.upstream import Call, FakeUpstream, Script, poll, speak
from tests.support.upstream_client import HISTORY, Connect, NoLocalModel, answer_of, ask, failure

TEXT = EventType.TEXT
connect = upstream_client.connect


class TestTheRequest:
    def test_is_openais_with_the_key_the_history_and_a_wish_for_usage(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        stream = ask(connect(), temperature=0.5, max_tokens=9)
        list(stream)
        stream.close()
        (call,) = upstream.calls
        assert call.path == "/v1/chat/completions"
        assert call.headers["authorization"] == "Bearer sk-secret"
        assert call.headers["accept-encoding"] == "identity"
        assert call.json == {
            "model": "m",
            "messages": HISTORY,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "max_tokens": 9,
        }

    @pytest.mark.parametrize(
        ("options", "header"),
        [
            ({"azure_api_key": "az"}, ("api-key", "az")),
            ({"api_key": "sk-own"}, ("api-key", "sk-own")),
            ({"azure_ad_token": "t"}, ("authorization", "Bearer t")),
        ],
    )
    def test_goes_to_azure_by_the_settings_alone(
        self,
        connect: Connect,
        upstream: FakeUpstream,
        options: dict[str, str],
        header: tuple[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Also where they are the application's, and the environment has none or others."""
        for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION"):
            monkeypatch.setenv(name, "another")
        endpoint = upstream.url.removesuffix("/v1")
        azure = {"azure_endpoint": endpoint, "azure_api_version": "2024-10-21"}
        stream = ask(connect(base_url=None, **azure, **options))
        list(stream)
        stream.close()
        (call,) = upstream.calls
        assert call.path == "/openai/deployments/m/chat/completions?api-version=2024-10-21"
        assert call.headers[header[0]] == header[1]

    def test_goes_out_without_stream_options_where_the_server_refuses_them(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        """One refusal is enough: from then on they are left out."""

        def script(call: Call) -> None:
            if "stream_options" in call.json:
                call.refuse(400, "Unknown parameter: stream_options")
            else:
                speak("ok", usage=False)(call)

        upstream.script = script
        way = connect()
        for _ in range(2):
            pieces, stream = answer_of(way)
            assert pieces == [(TEXT, "ok")]
            assert stream.usage("ok")[1] == "estimated"
        assert ["stream_options" in call.json for call in upstream.calls] == [True, False, False]

    @pytest.mark.parametrize("status", [400, 422])
    def test_names_max_tokens_as_the_server_wants_it(
        self, connect: Connect, upstream: FakeUpstream, status: int
    ) -> None:
        def script(call: Call) -> None:
            if "max_tokens" in call.json:
                call.refuse(status, "Use 'max_completion_tokens' instead of max_tokens.")
            else:
                speak("ok")(call)

        upstream.script = script
        stream = ask(connect(), max_tokens=9)
        list(stream)
        stream.close()
        assert upstream.calls[-1].json["max_completion_tokens"] == 9
        assert len(upstream.calls) == 2

    def test_is_not_repeated_for_ever_by_a_server_that_refuses_everything(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        upstream.script = lambda call: call.refuse(400, "stream_options max_completion_tokens")
        with pytest.raises(ChatAppError) as caught:
            ask(connect(), max_tokens=9)
        assert caught.value.code == "upstream_rejected"
        assert len(upstream.calls) == 2

    def test_falls_back_also_when_several_ask_at_the_same_moment(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        """All of them were refused before the first could remember it."""
        together = threading.Barrier(4)

        def script(call: Call) -> None:
            if "stream_options" in call.json:
                together.wait(30)
                call.refuse(400, "stream_options is not supported")
            else:
                speak("ok")(call)

        upstream.script = script
        way, results = connect(), []

        def one() -> None:
            try:
                results.append(answer_of(way)[0])
            except ChatAppError as error:
                results.append(error.code)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert results == [[(TEXT, "ok")]] * 4

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_is_sent_once_for_each_may_be_billed(
        self, connect: Connect, upstream: FakeUpstream, status: int
    ) -> None:
        upstream.script = lambda call: call.refuse(status)
        failure(connect(), opening=True)
        assert len(upstream.calls) == 1


class TestARefusal:
    @pytest.mark.parametrize(
        ("status", "code", "ours"),
        [
            (400, "upstream_rejected", 400),
            (401, "upstream_auth", 502),
            (402, "upstream_quota", 502),
            (403, "upstream_auth", 502),
            (404, "upstream_model_not_found", 404),
            (405, "upstream_address", 502),
            (407, "upstream_unreachable", 502),
            (408, "upstream_timeout", 504),
            (409, "upstream_rejected", 400),
            (413, "upstream_too_long", 400),
            (422, "upstream_rejected", 400),
            (429, "upstream_busy", 429),
            (500, "upstream_error", 502),
            (502, "upstream_error", 502),
            (503, "upstream_overloaded", 503),
            (504, "upstream_timeout", 504),
            (520, "upstream_unreachable", 502),
            (524, "upstream_timeout", 504),
            (529, "upstream_overloaded", 503),
        ],
    )
    def test_has_the_documented_status_and_shows_nothing_of_the_servers_text(
        self, connect: Connect, upstream: FakeUpstream, status: int, code: str, ours: int
    ) -> None:
        upstream.script = lambda call: call.refuse(status, "raw text with sk-secret and /a/path")
        error = failure(connect(), opening=True)
        assert (error.code, error.status) == (code, ours)
        assert "raw text" not in error.message

    def test_with_a_page_instead_of_json_is_the_same(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        def script(call: Call) -> None:
            call.raw(
                b"HTTP/1.1 502 Bad\r\nContent-Length: 6\r\nContent-Type: text/html\r\n\r\n<html>"
            )

        upstream.script = script
        assert failure(connect(), opening=True).code == "upstream_error"

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        ("given", "least", "most"),
        [
            ("7", 7, 7),
            ("1.5", 1.5, 1.5),
            ("0", 0, 0),
            ("-5", 0, 0),
            ("999999999", 86_400, 86_400),
            ("inf", 86_400, 86_400),
            ("in 60 s", 30, 60),
            ("60 s ago", 0, 0),
        ],
    )
    def test_says_when_to_come_back(
        self,
        connect: Connect,
        upstream: FakeUpstream,
        status: int,
        given: str,
        least: float,
        most: float,
    ) -> None:
        """A number of seconds or an HTTP date."""
        moment = time.time() + (60 if given == "in 60 s" else -60)
        header = email.utils.formatdate(moment, usegmt=True) if " s" in given else given
        upstream.script = lambda call: call.refuse(status, Retry_After=header)
        wait = failure(connect(), opening=True).retry_after
        assert wait is not None
        assert least <= wait <= most

    @pytest.mark.parametrize("header", ["soon", "", "nan", "Mon, 99 Foo 2020", "\xb2"])
    def test_with_a_time_that_is_none_says_only_that(
        self, connect: Connect, upstream: FakeUpstream, header: str
    ) -> None:
        upstream.script = lambda call: call.refuse(429, Retry_After=header)
        error = failure(connect(), opening=True)
        assert (error.code, error.retry_after) == ("upstream_busy", None)


def to(call: Call, status: int, location: str) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    call.raw(head.encode())


class TestWhatTheOperatorIsTold:
    """In the log: whom we asked, on which way, and what was said."""

    def test_has_the_servers_own_words_without_our_key(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        said = "Wrong key sk-secret\x1b[2J\r\n\u202e\u2028 for you"

        def script(call: Call) -> None:
            body = said.encode()
            call.raw(b"HTTP/1.1 401 X\r\nx-request-id: req_7\r\nContent-Length: ")
            call.raw(b"%d\r\n\r\n%b" % (len(body), body))

        upstream.script = script
        seen = failure(connect(), opening=True).seen
        assert seen == (
            f"status 401 from POST {upstream.url}/chat/completions, its request 'req_7': "
            r"'Wrong key ***\x1b[2J\r\n\u202e\u2028 for you'"
        )

    def test_has_the_address_without_password_and_query(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        upstream.script = lambda call: call.refuse(500)
        address = upstream.url.replace("http://", "http://me:hunter2@")
        seen = failure(connect(base_url=address), opening=True).seen
        assert f"from POST {upstream.url}/chat/completions," in seen
        assert "hunter2" not in seen

    @pytest.mark.parametrize("status", [301, 302, 303])
    def test_names_the_redirect_that_makes_a_question_a_page(
        self, connect: Connect, upstream: FakeUpstream, status: int
    ) -> None:
        """Most clients repeat it as a GET then, and so does the SDK's."""

        def script(call: Call) -> None:
            if call.path == "/v1/chat/completions":
                to(call, status, "/elsewhere")
            else:
                call.raw(b"HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\n<html>")

        upstream.script = script
        error = failure(connect(), opening=True)
        assert error.code == "upstream_address"
        base = upstream.url.removesuffix("/v1")
        assert error.seen == (
            f"GET {base}/elsewhere, redirected from {upstream.url}/chat/completions"
        )

    def test_names_the_redirect_before_a_refusal(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        def script(call: Call) -> None:
            if call.path == "/v1/chat/completions":
                to(call, 307, "/v2/chat/completions?key=hunter2")
            else:
                call.refuse(403)

        upstream.script = script
        seen = failure(connect(), opening=True).seen
        redirected = f"/v2/chat/completions, redirected from {upstream.url}/chat/completions"
        assert redirected in seen
        assert "hunter2" not in seen

    def test_names_redirects_without_an_end(self, connect: Connect, upstream: FakeUpstream) -> None:
        upstream.script = lambda call: to(call, 307, call.path)
        error = failure(connect(), opening=True)
        assert error.code == "upstream_address"
        assert "TooManyRedirects" in error.seen

    def test_names_the_proxy_in_use(
        self, connect: Connect, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = upstream.url.removesuffix("/v1")
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://me:hunter2@"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        upstream.script = lambda call: call.refuse(502)
        way = connect(base_url="http://model.example/v1")
        seen = failure(way, opening=True).seen
        assert f"http://model.example/v1/chat/completions, by the proxy {proxy}," in seen
        assert "hunter2" not in seen

    def test_a_refusal_that_breaks_off_is_one_all_the_same(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        def script(call: Call) -> None:
            call.raw(b"HTTP/1.1 401 X\r\nContent-Length: 99\r\n\r\n{")
            call.cut()

        upstream.script = script
        error = failure(connect(), opening=True)
        assert error.code == "upstream_auth"
        assert f"status 401 from POST {upstream.url}/chat/completions" in error.seen


class TestNoConnection:
    def test_to_a_closed_port_is_unreachable(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        way = connect(base_url=f"http://127.0.0.1:{port}/v1")
        assert failure(way, opening=True).code == "upstream_unreachable"

    def test_to_a_server_that_says_no_http(self, connect: Connect, upstream: FakeUpstream) -> None:
        upstream.script = lambda call: (call.raw(b"SSH-2.0-OpenSSH\r\n"), call.cut())
        assert failure(connect(), opening=True).code == "upstream_unreachable"

    def test_to_a_server_that_accepts_and_says_nothing(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        upstream.script = lambda call: call.wait_closed(30)
        error = failure(connect(upstream_timeout=0.1), opening=True)
        assert (error.code, error.status) == ("upstream_timeout", 504)


@pytest.mark.parametrize("phase", ["waiting for headers", "silent"])
def test_cancelling_closes_the_socket_and_ends_the_wait(
    connect: Connect, upstream: FakeUpstream, phase: str
) -> None:
    def script(call: Call) -> None:
        if phase == "silent":
            call.head()
            call.text("a")
        call.wait_closed(30)

    upstream.script = script
    cancellation, ended = Cancellation(), []
    way = connect()

    def read() -> None:
        try:
            stream = way.open("m", HISTORY, {}, cancellation)
            try:
                for _ in stream:
                    began.set()
            finally:
                stream.close()
        except ChatAppError as error:
            ended.append(error.code)

    began = threading.Event()
    thread = threading.Thread(target=read)
    thread.start()
    upstream.wait_for_calls(1)
    if phase == "silent":
        assert began.wait(30)
    cancellation.cancel()
    thread.join(30)
    assert ended == ["upstream_cut" if phase == "silent" else "upstream_unreachable"]
    assert poll(upstream.calls[0].closed.is_set)


class TestTheModel:
    def test_is_the_one_of_the_settings(self, connect: Connect) -> None:
        assert connect(model="a", models=("b", "a")).models() == ["a", "b"]
        assert connect(models=("b", "c")).default_model() == "b"

    def test_is_the_first_that_the_server_lists_and_it_is_asked_once(
        self, connect: Connect, upstream: FakeUpstream
    ) -> None:
        upstream.models = ["first", "second"]
        way = connect()
        assert way.default_model() == "first"
        upstream.models = ["other"]
        assert way.default_model() == "first"

    def test_is_openais_where_no_other_server_is_named(self, connect: Connect) -> None:
        assert connect(base_url=None).default_model() == OPENAI_DEFAULT_MODEL

    @pytest.mark.parametrize(
        "reply",
        [b"<html>", b"", b"[]", b"{}", b"null", b'{"data":[]}', b'{"data":5}', b'{"data":[{}]}',
         b'{"data":[{"id":5}]}', b'{"data":{"0":1}}', b'{"data":[{"id":"text-embedding-3"}]}'],
    )  # fmt: skip
    def test_of_a_server_that_lists_none_is_an_error_that_says_what_to_set(
        self, connect: Connect, upstream: FakeUpstream, reply: bytes, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(upstream, "_answer", listing(reply))
        with pytest.raises(ChatAppError, match="CHATAPP_MODEL") as caught:
            connect().default_model()
        assert caught.value.code == "upstream_invalid"

    @pytest.mark.parametrize(
        ("status", "code"),
        [(404, "upstream_invalid"), (405, "upstream_invalid"), (401, "upstream_auth"),
         (500, "upstream_error")],
    )  # fmt: skip
    def test_of_a_server_that_refuses_to_list(
        self, connect: Connect, upstream: FakeUpstream, status: int, code: str, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(upstream, "_answer", lambda call: call.refuse(status))
        with pytest.raises(ChatAppError) as caught:
            connect().default_model()
        assert caught.value.code == code

    def test_of_a_server_that_lists_without_an_end_is_bounded(
        self, connect: Connect, upstream: FakeUpstream, monkeypatch: Any
    ) -> None:
        def endless(call: Call) -> None:
            call.head()
            while True:
                call.send(b"[" * (1 << 20))

        monkeypatch.setattr(upstream, "_answer", endless)
        with pytest.raises(ChatAppError, match="CHATAPP_MODEL") as caught:
            connect().default_model()
        assert caught.value.code == "upstream_invalid"

    @pytest.mark.parametrize("begins", [True, False])
    def test_of_a_server_that_lists_slowly_is_waited_for_as_long_as_a_visitor_waits(
        self, connect: Connect, upstream: FakeUpstream, monkeypatch: Any, begins: bool
    ) -> None:
        """Also where each piece of it comes in time."""

        def slow(call: Call) -> None:
            if begins:
                call.head()
                while not call.wait_closed(0.05):
                    call.send(b" ")
            call.wait_closed(30)

        monkeypatch.setattr(upstream, "_answer", slow)
        monkeypatch.setattr("chatapp.upstream.client.LIST_SECONDS", 0.3)
        with pytest.raises(ChatAppError) as caught:
            connect().default_model()
        assert caught.value.code == "upstream_timeout"

    def test_is_asked_for_once_by_all_who_come_at_the_same_time(
        self, connect: Connect, upstream: FakeUpstream, monkeypatch: Any
    ) -> None:
        """Also when that fails: they don't wait for each other's attempts."""
        monkeypatch.setattr("chatapp.upstream.model_catalog.FAULT_SECONDS", 0)
        asked: list[Call] = []
        come = threading.Event()

        def hold(call: Call) -> None:
            asked.append(call)
            come.wait(30)
            if len(asked) == 1:
                call.refuse(500)
            else:
                listing(b'{"data":[{"id":"a"}]}')(call)

        monkeypatch.setattr(upstream, "_answer", hold)
        way, told = connect(), []

        def visit() -> None:
            try:
                told.append(way.default_model())
            except ChatAppError as error:
                told.append(error.code)

        for attempt, expected in enumerate(["upstream_error", "a"], 1):
            told.clear()
            come.clear()
            visitors = [threading.Thread(target=visit) for _ in range(20)]
            for visitor in visitors:
                visitor.start()
            poll(lambda number=attempt: len(asked) == number)
            poll(lambda: len(way._catalog._found._condition._waiters) == 19)
            come.set()
            for visitor in visitors:
                visitor.join(30)
            assert told == [expected] * 20
        assert len(asked) == 2


def listing(reply: bytes) -> Script:
    """Lists models by this body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    return lambda call: call.raw(head % (len(reply), reply))


def test_with_nobody_to_ask_the_error_says_what_to_do() -> None:
    way = Upstream(Settings(), StockTransport, NoLocalModel(), None)
    for question in (way.check_configured, way.default_model, way.models):
        with pytest.raises(UpstreamUnconfigured, match="OPENAI_API_KEY"):
            question()
    assert not way.is_local


def test_the_local_model_is_used_only_where_the_settings_name_nobody() -> None:
    assert Upstream(Settings(), StockTransport, NoLocalModel(), "tiny").models() == ["tiny"]
    for named in (Settings(api_key="k"), Settings(local_model=False)):
        assert not Upstream(named, StockTransport, NoLocalModel(), "tiny").is_local
