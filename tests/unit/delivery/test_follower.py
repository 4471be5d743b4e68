"""Every reader of an answer gets the same text, whatever was cut, trimmed or asked for."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers import sse
from chatapp.answers.answer import Answer
from chatapp.answers.events import Event, EventType, event_data
from chatapp.answers.live_log import LiveLog
from chatapp.answers.outcome import Outcome, Status, Transcript
from chatapp.answers.text.granularity import Granularity
from chatapp.delivery.follower import Follower, follow
from chatapp.runtime.wakers import ThreadWaker
from chatapp.upstream.sse_decoder import Decoder, Message
from tests.support.hypothesis_settings import FEW, MANY, SPEECH, TEXTS

TEXT, REASONING = EventType.TEXT, EventType.REASONING


class Here:
    """A client that stays until it is told to go, and is written to by the generator alone."""

    direct = False

    def __init__(self) -> None:
        self.gone = False
        self.maybe_gone = False

    def begin_write(self, block: bytes) -> None:
        pass

    def end_write(self) -> None:
        pass

    def try_send(self, data: bytes) -> bool:
        raise AssertionError(f"not direct, but was given {data!r}")

    def flush(self) -> None:
        pass

    def end(self) -> None:
        pass


class Direct(Here):
    """A client that can be written to directly, and takes so many bytes of each write at once."""

    direct = True

    def __init__(self, takes: Iterable[int]) -> None:
        super().__init__()
        self.wire = b""
        self.takes = iter(takes)
        self.rest = b""

    def try_send(self, data: bytes) -> bool:
        assert not self.rest, "what is left goes first"
        room = next(self.takes, len(data))
        self.wire += data[:room]
        self.rest = data[room:]
        return not self.rest

    def flush(self) -> None:
        self.wire += self.rest
        self.rest = b""


class Script:
    """A waker during whose waits an answer is written: a delta, or None for a mere wake."""

    def __init__(self, answer: Answer, steps: Iterable[tuple[EventType, str] | None]) -> None:
        self.answer = answer
        self.steps = iter(steps)
        self.woken = False
        self.waited = 0
        self.write_pending: Callable[[], bool] | None = None

    def wake(self) -> None:
        self.woken = True

    def notify_data(self) -> None:
        if self.write_pending is None or not self.write_pending():
            self.woken = True

    def wait(self, _timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
        self.write_pending = write_pending
        self.waited += 1
        while not self.woken:
            step = next(self.steps, "end")
            if step == "end":
                end(self.answer)
            elif step is None:
                self.wake()
            else:
                self.answer.write([step])
        self.write_pending, self.woken = None, False
        return True


class Page:
    """A client: keeps the text as the contract says, and its cursor."""

    def __init__(self) -> None:
        self.texts = {"message": "", "reasoning": ""}
        self.cursor: int | None = 0
        self.end: str | None = None
        self.snapshots = 0

    def take(self, wire: bytes) -> None:
        """The bytes of one connection, which may end anywhere."""
        for message in Decoder().feed(wire):
            self._take(message)

    def _take(self, message: Message) -> None:
        number = int(message.id)
        assert self.end is None, "nothing may follow the end"
        # A snapshot carries the number that it reaches to; before the first text that is 1.
        assert self.cursor is None or number > self.cursor - (message.event == "snapshot")
        self.cursor = number
        if message.event == "snapshot":
            fields = sse.Event(0, EventType.SNAPSHOT, message.data).fields()
            self.texts = {"message": fields["text"], "reasoning": fields["reasoning"]}
            self.snapshots += 1
        elif message.event in self.texts:
            self.texts[message.event] += sse.Event(0, TEXT, message.data).text
        elif message.event in ("done", "failed"):
            self.end = message.event


def begun(log_bytes: int = 1 << 20) -> Answer:
    answer = Answer("me", LiveLog(log_bytes), 1 << 20)
    answer.log.append(EventType.START, answer.start_event().data)
    answer.move(Status.STREAMING)
    return answer


def end(answer: Answer) -> None:
    answer.move(Status.DONE)
    answer.write_end(Outcome("stop"), lambda _: None)


def follower(
    answer: Answer, cursor: int | None = 0, granularity: Granularity = Granularity.TOKEN
) -> Follower:
    return Follower(answer, cursor, granularity, lambda: False)


SPOKEN = st.lists(
    st.tuples(st.sampled_from([TEXT, TEXT, REASONING]), (SPEECH | TEXTS).filter(bool)), max_size=10
)
CONNECTIONS = st.lists(
    st.tuples(st.sampled_from(Granularity), st.integers(0, 400), st.integers(0, 10)), max_size=6
)


def test_pieces_written_together_wake_a_reader_once_and_leave_in_one_read() -> None:
    answer, woken = begun(), []

    class Woken:
        def notify_data(self) -> None:
            woken.append(feed.read())

    feed = follower(answer, cursor=1)
    feed.enter(Woken())
    assert answer.write([(REASONING, "so"), (TEXT, "Hello"), (TEXT, " world")])
    assert [[m.data for m in Decoder().feed(wire)] for wire in woken] == [
        [b'{"text":"so"}', b'{"text":"Hello"}', b'{"text":" world"}']
    ]


@MANY
@given(SPOKEN, CONNECTIONS, st.sampled_from([1, 300, 1 << 20]))
def test_cut_after_any_byte_and_resumed_at_any_granularity_the_text_is_the_same(
    spoken: list[tuple[EventType, str]],
    connections: list[tuple[Granularity, int, int]],
    log_bytes: int,
) -> None:
    """Between connections the answer goes on; a small log is trimmed, which costs a snapshot."""
    answer, page, told = begun(log_bytes), Page(), list(spoken)
    for granularity, cut, pieces in connections:
        feed = follower(answer, page.cursor, granularity)
        wire = feed.read()
        for kind, text in told[:pieces]:
            answer.write([(kind, text)])
            wire += feed.read()
        told = told[pieces:]
        page.take(wire[:cut])
    for kind, text in told:
        answer.write([(kind, text)])
    end(answer)
    feed = follower(answer, page.cursor, Granularity.WORD)
    page.take(feed.read() + feed.read())
    assert page.end == "done"
    assert page.texts == {
        "message": "".join(text for kind, text in spoken if kind is TEXT),
        "reasoning": "".join(text for kind, text in spoken if kind is REASONING),
    }
    assert page.cursor == answer.log.last
    assert page.snapshots == 0 or log_bytes < 1 << 20


@FEW
@given(SPOKEN, st.sampled_from(Granularity), st.booleans())
def test_a_reader_of_whom_nobody_knows_what_it_has_gets_a_snapshot_first(
    spoken: list[tuple[EventType, str]], granularity: Granularity, over: bool
) -> None:
    answer, page = begun(), Page()
    for kind, text in spoken[:5]:
        answer.write([(kind, text)])
    if over:
        end(answer)
    page.cursor = None
    feed = follower(answer, None, granularity)
    wire = feed.read()
    assert wire.startswith(b"event: snapshot\n")
    page.take(wire)
    if not over:
        for kind, text in spoken[5:]:
            answer.write([(kind, text)])
        end(answer)
    page.take(feed.read())
    written = spoken[:5] if over else spoken
    assert page.texts["message"] == "".join(text for kind, text in written if kind is TEXT)
    assert (page.end, page.snapshots) == ("done", 1)


def test_a_reader_from_the_start_of_a_trimmed_log_still_gets_start_as_event_1() -> None:
    answer, page = begun(100), Page()
    for _ in range(20):
        answer.write([(TEXT, "some words and ")])
    wire = follower(answer).read()
    assert wire.startswith(b"event: start\n")
    assert b"\nid: 1\n\n" in wire
    page.take(wire)
    assert (page.snapshots, page.texts["message"]) == (1, "some words and " * 20)


def test_a_snapshot_of_an_answer_whose_end_is_just_being_written_does_not_hide_that_end() -> None:
    """The last event is in the log a moment before the answer counts as over."""
    answer, page = begun(), Page()
    answer.write([(TEXT, "all")])
    answer.log.append(EventType.DONE, event_data({}))
    assert answer.running
    page.cursor = None
    feed = follower(answer, None)
    page.take(feed.read() + feed.read())
    assert (page.texts["message"], page.end) == ("all", "done")


def test_a_sentence_that_a_reader_comes_into_the_middle_of_ends_where_it_ends() -> None:
    """After `Dr` a full stop ends nothing, which only the text before the cursor tells."""
    answer = begun()
    answer.write([(TEXT, "He saw Dr")])
    cursor = answer.log.last
    for text in (". Who", " today.", " Then", " he left."):
        answer.write([(TEXT, text)])
    end(answer)
    events = Decoder().feed(follower(answer, cursor, Granularity.SENTENCE).read())
    texts = [sse.Event(0, TEXT, message.data).text for message in events[:-1]]
    assert texts == [". Who today.", " Then he left."]


class BusyLog(LiveLog):
    """Whose writer is just faster than the reader who looks back."""

    faster = False

    def transcript(self) -> Transcript:
        return self._then_written(super().transcript())

    def events(self, cursor: int, to: int | None = None) -> list[Event]:
        return self._then_written(super().events(cursor, to))

    def _then_written(self, taken: Any) -> Any:
        if not self.faster:
            self.faster = True
            self.append_piece(TEXT, ".")
            self.append_piece(TEXT, " Who")
        return taken


@pytest.mark.parametrize("its_events_are_there", [True, False])
def test_what_is_written_while_a_reader_looks_back_is_not_taken_for_what_it_has(
    its_events_are_there: bool,
) -> None:
    answer = Answer("me", BusyLog(1 << 20), 1 << 20)
    answer.log.append(EventType.START, answer.start_event().data)
    answer.log.append_piece(TEXT, "He visited Dr")
    if not its_events_are_there:
        answer.log.restart(Transcript(2, "He visited Dr", ""))
    feed = follower(answer, 2, Granularity.SENTENCE)
    answer.log.append_piece(TEXT, " today?\n")
    texts = [sse.Event(0, TEXT, message.data).text for message in Decoder().feed(feed.read())]
    assert texts == [". Who today?\n"]


def following(
    answer: Answer, presence: Here, waker: ThreadWaker, heartbeat: float = 60.0
) -> Iterator[bytes]:
    return follow(follower(answer), presence, waker, heartbeat)


def test_the_first_bytes_do_not_wait_for_the_first_token() -> None:
    answer = begun()
    first = next(following(answer, Here(), ThreadWaker()))
    assert first.startswith(b"retry: 1000\nevent: start\n")


def test_an_answer_that_is_over_is_followed_to_its_end_without_waiting() -> None:
    answer = begun()
    answer.write([(TEXT, "a")])
    end(answer)
    page = Page()
    page.take(b"".join(following(answer, Here(), ThreadWaker())))
    assert (page.texts["message"], page.end) == ("a", "done")
    assert answer.readers == set()


@MANY
@given(
    steps=st.lists(
        st.none() | st.tuples(st.sampled_from([TEXT, TEXT, REASONING]), SPEECH.filter(bool)),
        max_size=20,
    ),
    takes=st.lists(st.integers(0, 60), max_size=10),
    granularity=st.sampled_from(Granularity),
)
def test_what_is_passed_on_and_what_is_yielded_is_the_whole_answer_in_order(
    steps: list[tuple[EventType, str] | None], takes: list[int], granularity: Granularity
) -> None:
    """However much of each direct write the client takes at once."""
    answer, presence, page = begun(), Direct(takes), Page()
    for block in follow(follower(answer, 0, granularity), presence, Script(answer, steps), 60):
        presence.wire += block
    page.take(presence.wire)
    texts = {"message": answer.log.text(), "reasoning": answer.log.text(REASONING)}
    assert (page.texts, page.end, page.snapshots) == (texts, "done", 0)


def test_news_do_not_wake_a_generator_whose_client_takes_them() -> None:
    answer, presence = begun(), Direct([])
    waker = Script(answer, [(TEXT, "a"), (TEXT, "b"), (REASONING, "c")])
    yielded = list(follow(follower(answer), presence, waker, 60))
    assert presence.wire.count(b"data: ") == 3
    assert len(yielded) == 2, "what was there at first, and the end"
    assert waker.waited == 1


def test_a_client_that_may_have_gone_is_written_to_and_reads_on_if_it_has_not() -> None:
    answer, presence = begun(), Direct([])

    class Doubt(Script):
        def wait(self, timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
            presence.maybe_gone = not self.waited
            return super().wait(timeout, write_pending)

    bell = Doubt(answer, [None, (TEXT, "a")])
    first, comment, last = follow(follower(answer), presence, bell, 60)
    assert first.startswith(sse.RETRY)
    assert comment == sse.KEEP_ALIVE
    assert presence.wire.count(b"data: ") == 1
    assert b"event: done" in last


def test_news_break_the_silence() -> None:
    """A comment comes when nothing has been written for so long, by whomever."""
    answer, presence = begun(), Direct([])

    class Late(Script):
        def wait(self, timeout: float, write_pending: Callable[[], bool] | None = None) -> bool:
            time.sleep(timeout)
            if not self.waited:
                self.waited += 1
                assert write_pending is not None
                answer.log.append_piece(TEXT, "just in time")
                assert write_pending()
            return False

    chunks = follow(follower(answer), presence, Late(answer, []), 0.02)
    next(chunks)
    assert next(chunks) == sse.KEEP_ALIVE
    assert b"just in time" in presence.wire


def test_silence_is_broken_by_a_comment_and_a_client_that_is_gone_ends_it() -> None:
    answer, presence, waker = begun(), Here(), ThreadWaker()
    chunks = following(answer, presence, waker, heartbeat=0.01)
    assert [next(chunks) for _ in range(3)][1:] == [sse.KEEP_ALIVE] * 2
    assert answer.readers == {waker}
    presence.gone = True
    waker.wake()
    assert len(list(chunks)) <= 1  # The comment whose time had come.
    assert answer.readers == set()


def test_a_reader_is_told_to_come_back_elsewhere_and_finds_the_rest_there() -> None:
    answer, leaving, page = begun(), threading.Event(), Page()
    feed = Follower(answer, 0, Granularity.TOKEN, leaving.is_set)
    chunks = follow(feed, Here(), ThreadWaker(), 60)
    wire = next(chunks)
    answer.write([(TEXT, "more")])
    leaving.set()
    wire += b"".join(chunks)
    assert wire.endswith(sse.COME_BACK)
    assert not answer.readers
    end(answer)
    page.take(wire)
    page.take(follower(answer, page.cursor).read())
    assert (page.texts["message"], page.end) == ("more", "done")


def test_a_reader_of_an_ended_answer_gets_its_end_also_when_the_worker_goes_down() -> None:
    answer = begun()
    end(answer)
    feed = Follower(answer, 0, Granularity.TOKEN, lambda: True)
    wire = b"".join(follow(feed, Here(), ThreadWaker(), 60))
    assert b"event: done" in wire
    assert sse.COME_BACK not in wire


def test_a_stream_that_is_closed_early_is_no_reader_any_more_and_the_time_is_noted() -> None:
    answer = begun()
    chunks = following(answer, Here(), ThreadWaker())
    next(chunks)
    before = time.monotonic()
    chunks.close()  # type: ignore[attr-defined]
    assert answer.readers == set()
    assert answer.unread_since >= before


@pytest.mark.parametrize("granularity", list(Granularity))
def test_readers_in_threads_get_everything_while_it_is_written_and_trimmed(
    granularity: Granularity,
) -> None:
    """Also those who reconnect all the time, and whoever comes when the log was trimmed."""
    answer = begun(3000)
    faults: list[object] = []

    def read(cut: int) -> None:
        page = Page()
        try:
            while page.end is None:
                feed = Follower(answer, page.cursor, granularity, lambda: False)
                for count, chunk in enumerate(follow(feed, Here(), ThreadWaker(), 60)):
                    page.take(chunk.removeprefix(sse.RETRY))
                    if page.end or count > cut:
                        break
            if page.texts["message"] != answer.log.text():
                faults.append("text")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=read, args=(cut,)) for cut in (0, 2, 10**9)]
    for thread in threads:
        thread.start()
    for number in range(600):
        answer.write([(TEXT, f"Sentence {number} is said. And")])
    end(answer)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert faults == []
