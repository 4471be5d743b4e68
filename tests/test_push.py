"""What is published reaches every open page of its addressee, once, and those that come back."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import InvalidRequest
from chatapp.following import Bell
from chatapp.push import PushChannel, PushReader
from chatapp.sse import Decoder, Message
from tests.properties import FEW


@pytest.fixture
def channel() -> PushChannel:
    return PushChannel(100, 600, 1000)


def read(reader: PushReader) -> list[Message]:
    return Decoder().feed(reader.read())


def test_a_page_gets_what_comes_now_and_not_what_was_before(channel: PushChannel) -> None:
    channel.publish("old", 1)
    reader = PushReader(channel, "me", None)
    assert read(reader) == []
    channel.publish("news", {"text": "中\u2028\n"})
    (message,) = read(reader)
    assert (message.event, message.data) == ("news", '{"text":"中\u2028\\n"}'.encode())
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
    channel = PushChannel(100, 600, 1000)
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


def test_a_cursor_that_is_ahead_or_too_long_does_no_harm(channel: PushChannel) -> None:
    reader = PushReader(channel, "me", None)
    channel.publish("a", 1)
    mark = read(reader)[0].id.partition("-")[0]
    assert read(PushReader(channel, "me", f"{mark}-999")) == []
    assert len(read(PushReader(channel, "me", f"{mark}-{'9' * 5000}"))) == 1


def test_only_so_many_are_kept_and_a_page_that_was_away_longer_gets_the_latest() -> None:
    channel = PushChannel(3, 600, 1000)
    reader = PushReader(channel, "me", None)
    for number in range(10):
        channel.publish("e", number)
    assert [int(m.data) for m in read(reader)] == [7, 8, 9]


def test_what_is_too_old_is_not_kept() -> None:
    channel = PushChannel(100, 0, 1000)
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
    ["x" * 1000, object(), "\ud800", {1: {2: object()}}, _nested()],
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
    bells = [Bell() for _ in range(3)]
    readers = [PushReader(channel, "me", None) for _ in bells]
    for reader, bell in zip(readers, bells, strict=True):
        reader.enter(bell)
    channel.publish("a", 1)
    assert all(bell.wait(0) for bell in bells)
    assert not readers[0].leaving()
    channel.leave()
    assert all(bell.wait(0) for bell in bells)
    assert readers[0].leaving()
    readers[0].exit(bells[0])
    channel.publish("b", 1)
    assert [bell.wait(0) for bell in bells] == [False, True, True]


def test_threads_that_publish_at_the_same_time_lose_nothing() -> None:
    channel = PushChannel(10_000, 600, 1000)
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
    assert [int(m.id.partition("-")[2]) for m in got] == list(range(1, 801))
