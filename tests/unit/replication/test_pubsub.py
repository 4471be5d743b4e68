"""What is published reaches every open page of its addressee, once, and those that come back."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import InvalidRequest
from chatapp.eventlog import MemoryEventLog, PendingMessage
from chatapp.eventlog.base import before_first_message
from chatapp.replication.pubsub import PushChannel, PushReader
from chatapp.runtime.wakers import ThreadWaker
from chatapp.settings import Settings
from chatapp.upstream.sse_decoder import Decoder, Message
from tests.support.hypothesis_settings import FEW
from tests.support.replication import FlakyLog, nothing
from tests.support.upstream import poll


def channel_of(log: Any, **options: Any) -> PushChannel:
    """One worker's channel; what it publishes is in the event log at once."""
    made = PushChannel(Settings(push_max_bytes=1024, **options), log, nothing)
    made._background.wake = lambda: None  # type: ignore[method-assign]

    def post(each: PendingMessage) -> None:
        log.write("me", [], [], [each])
        made.wake()

    made._post = post
    return made


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog()


@pytest.fixture
def channel(log: MemoryEventLog) -> PushChannel:
    return channel_of(log, push_kept=100)


def read(reader: PushReader) -> list[Message]:
    """What a page gets when its worker has looked for news."""
    reader._channel._poll()
    return Decoder().feed(reader.read())


def test_a_page_gets_what_comes_now_and_not_what_was_before(channel: PushChannel) -> None:
    channel.publish("old", 1)
    reader = PushReader(channel, "me", None)
    assert read(reader) == []
    channel.publish("news", {"text": "中\u2028\n"})
    (message,) = read(reader)
    assert (message.event, message.data) == ("news", '{"text":"中\\u2028\\n"}'.encode())
    assert read(reader) == []


def test_what_is_for_somebody_else_is_not_seen(channel: PushChannel) -> None:
    me, other = PushReader(channel, "me", None), PushReader(channel, "other", None)
    channel.publish("a", 1, to="me")
    channel.publish("b", 2)
    assert [m.event for m in read(me)] == ["a", "b"]
    assert [m.event for m in read(other)] == ["b"]


@FEW
@given(st.lists(st.sampled_from(["me", "other", None]), max_size=20), st.integers(0, 20))
def test_a_page_that_comes_back_gets_what_it_missed_and_nothing_twice(
    addressees: list[str | None], seen: int
) -> None:
    channel = channel_of(MemoryEventLog(), push_kept=100)
    reader = PushReader(channel, "me", None)
    mine = [n for n, to in enumerate(addressees) if to != "other"]
    got: list[Message] = []
    for number, to in enumerate(addressees):
        channel.publish("e", number, to)
        if number < seen:
            got += read(reader)
    cursor = got[-1].id if got else None
    again = PushReader(channel, "me", cursor) if cursor else reader
    got += read(again)
    assert [int(message.data) for message in got] == mine


def test_a_cursor_of_an_earlier_process_gets_all_that_is_kept(channel: PushChannel) -> None:
    channel.publish("a", 1)
    for cursor in ("deadbeef-99", "x", "-", "deadbeef-", "٣", "0"):
        assert [m.event for m in read(PushReader(channel, "me", cursor))] == ["a"]


def test_a_cursor_that_was_never_given_or_is_too_long_does_no_harm(channel: PushChannel) -> None:
    reader = PushReader(channel, "me", None)
    channel.publish("a", 1)
    (message,) = read(reader)
    for cursor in (f"{int(message.id) + 999}", "9" * 18, "9" * 5000):
        assert [m.event for m in read(PushReader(channel, "me", cursor))] == ["a"]


def test_a_page_that_comes_from_a_quicker_worker_gets_nothing_twice(log: MemoryEventLog) -> None:
    """The worker that it comes to has readers, and has not looked for news since."""
    as_fast_send_socket, slow = channel_of(log), channel_of(log)
    pages = [PushReader(each, "me", None) for each in (as_fast_send_socket, slow)]
    pages[1].enter(ThreadWaker())
    as_fast_send_socket.publish("a", 1)
    as_fast_send_socket.publish("b", 2)
    cursor = read(pages[0])[-1].id
    assert Decoder().feed(PushReader(slow, "me", cursor).read()) == []
    as_fast_send_socket.publish("c", 3)
    assert [m.event for m in read(PushReader(slow, "me", cursor))] == ["c"]


def test_what_one_worker_publishes_is_read_in_all_in_one_order(log: MemoryEventLog) -> None:
    channels = [channel_of(log) for _ in range(3)]
    pages = [PushReader(each, "me", None) for each in channels]
    for number in range(9):
        channels[number % 3].publish("e", number)
    got = [read(page) for page in pages]
    assert got[0] == got[1] == got[2]
    assert [int(m.data) for m in got[0]] == list(range(9))


def test_the_first_page_in_a_long_time_begins_with_what_comes(
    log: MemoryEventLog,
) -> None:
    """Also where more was published meanwhile than one look brings."""
    channel = channel_of(log, push_kept=10)
    PushReader(channel, "me", None)
    for _ in range(3):
        log.write("there", [], [], [PendingMessage(None, "old", b"1")] * 1100)
    reader = PushReader(channel, "me", None)
    channel.publish("new", 1)
    assert [m.event for m in read(reader)] == ["new"]


def test_an_event_log_that_is_away_when_a_page_comes_refuses_it_nothing(
    log: MemoryEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    flaky = FlakyLog(log)
    channel = channel_of(flaky)
    first = PushReader(channel, "me", None)
    channel.publish("a", 1)
    (message,) = read(first)
    flaky.away = True
    reader = PushReader(channel, "me", message.id)
    assert "away" in caplog.text
    flaky.away = False
    channel.publish("b", 2)
    assert [m.event for m in read(reader)] == ["b"]


def test_an_event_log_that_was_emptied_goes_on_above_all_that_pages_have_seen() -> None:
    channel = channel_of(MemoryEventLog())
    reader = PushReader(channel, "me", None)
    channel.publish("a", 1)
    (message,) = read(reader)
    emptied = channel_of(MemoryEventLog())
    again = PushReader(emptied, "me", message.id)
    poll(lambda: before_first_message() > int(message.id))
    emptied.publish("b", 2)
    assert [m.event for m in read(again)] == ["b"]


def test_only_so_many_are_kept_and_a_page_that_was_away_longer_gets_the_latest() -> None:
    channel = channel_of(MemoryEventLog(), push_kept=3)
    reader = PushReader(channel, "me", None)
    for number in range(10):
        channel.publish("e", number)
    assert [int(m.data) for m in read(reader)] == [7, 8, 9]


def test_what_is_too_old_is_not_kept() -> None:
    channel = channel_of(MemoryEventLog(), push_age=0)
    reader = PushReader(channel, "me", None)
    channel.publish("e", 1)
    channel.publish("e", 2)
    assert read(reader) == []


@pytest.mark.parametrize(
    "event", ["", "a b", "a\nb", "a\rdata: x", "é", "x" * 65, "error", "open", "message"]
)
def test_a_name_that_would_break_the_stream_or_is_event_sources_own_is_refused(
    channel: PushChannel, event: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        channel.publish(event, 1)
    assert caught.value.param == "event"


def _nested() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "data",
    ["x" * 1024, object(), "\ud800", {1: {2: object()}}, _nested()],
    ids=lambda d: str(type(d)),
)
def test_data_that_is_too_large_or_no_json_is_refused_and_nothing_is_published(
    channel: PushChannel, data: object
) -> None:
    reader = PushReader(channel, "me", None)
    with pytest.raises(InvalidRequest) as caught:
        channel.publish("a", data)
    assert caught.value.param == "data"
    assert read(reader) == []


def test_publishing_and_leaving_wake_every_reader(channel: PushChannel) -> None:
    wakers = [ThreadWaker() for _ in range(3)]
    readers = [PushReader(channel, "me", None) for _ in wakers]
    for reader, waker in zip(readers, wakers, strict=True):
        reader.enter(waker)
    channel.publish("a", 1)
    channel._poll()
    assert all(waker.wait(0) for waker in wakers)
    assert not readers[0].draining()
    channel.drain()
    assert all(waker.wait(0) for waker in wakers)
    assert readers[0].draining()
    readers[0].exit(wakers[0])
    channel.publish("b", 1)
    channel._poll()
    assert [waker.wait(0) for waker in wakers] == [False, True, True]


def test_threads_that_publish_at_the_same_time_lose_nothing() -> None:
    channel = channel_of(MemoryEventLog(), push_kept=10_000)
    reader = PushReader(channel, "me", None)

    def publish() -> None:
        for _ in range(200):
            channel.publish("e", 1)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    got: list[Message] = []
    while any(thread.is_alive() for thread in threads):
        got += read(reader)
    got += read(reader)
    numbers = [int(message.id) for message in got]
    assert numbers == list(range(numbers[0], numbers[0] + 800))


def test_pages_are_served_by_themselves_and_the_poll_ends_with_the_last_of_them(
    log: MemoryEventLog,
) -> None:
    made = PushChannel(Settings(poll_interval=0.01), log, nothing)
    waker, reader = ThreadWaker(), PushReader(made, "me", None)
    reader.enter(waker)
    log.write("there", [], [], [PendingMessage("me", "a", b"1")])
    poll(lambda: waker.wait(0.01))
    assert [m.event for m in Decoder().feed(reader.read())] == ["a"]
    reader.exit(waker)
    assert made._poll() is None
    made._background.end(30)
