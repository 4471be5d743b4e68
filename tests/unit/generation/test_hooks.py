"""Hooks change, refuse, stop and learn; a fault of theirs never lets anything through."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import gevent
import pytest

from chatapp.answers.answer import Deltas
from chatapp.answers.events import EventType
from chatapp.errors import ChatAppError, InternalError, QuotaUsed, Refused, StopAnswer
from chatapp.generation.hooks import AnswerInfo, AnswerRequest, AnswerResult, Hooks
from chatapp.runtime.stall_watch import StallWatch

TEXT, REASONING = EventType.TEXT, EventType.REASONING
HERE = __name__


class Written:
    """The end of the way of the pieces, as `Answer.write` is."""

    def __init__(self, room: int = 100) -> None:
        self.pieces: list[tuple[EventType, str]] = []
        self.room = room

    def __call__(self, pieces: Deltas) -> bool:
        for piece in pieces:
            self.pieces.append(piece)
            if len(self.pieces) >= self.room:
                return False
        return True


def request(**changes: Any) -> AnswerRequest:
    fields: dict[str, Any] = {
        "answer_id": "a",
        "owner": "ann",
        "conversation_id": "c",
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
    }
    return AnswerRequest(**(fields | changes))


def info() -> AnswerInfo:
    return AnswerInfo(answer_id="a", owner="ann", conversation_id="c", model="m")


def result(status: str) -> AnswerResult:
    return AnswerResult(
        answer_id="a",
        owner="ann",
        conversation_id=None,
        model="m",
        status=status,
        text="Hello",
        reasoning="",
        finish_reason="stop",
        usage={"total_tokens": 3},
        usage_source="provider",
        error=None,
        created_at=datetime.now(UTC),
        seconds=1.5,
    )


@pytest.fixture
def hooks() -> Hooks:
    return Hooks(StallWatch(0.1))


def fails(*_args: Any) -> None:
    raise LookupError("secret detail")


class TestBefore:
    def test_they_run_in_order_and_each_sees_what_the_one_before_has_changed(
        self, hooks: Hooks
    ) -> None:
        def add(asked: AnswerRequest) -> None:
            asked.messages.insert(0, {"role": "system", "content": "context"})

        def choose(asked: AnswerRequest) -> None:
            asked.model = f"large-{len(asked.messages)}"
            asked.options["temperature"] = 0

        hooks.before += [add, choose]
        asked = request()
        hooks.prepare(asked)
        assert [each["role"] for each in asked.messages] == ["system", "user"]
        assert (asked.model, asked.options) == ("large-2", {"temperature": 0})

    @pytest.mark.parametrize(
        "error", [Refused("Not here.", status=422), QuotaUsed("Later.", retry_after=9)]
    )
    def test_a_refusal_comes_through_and_nothing_runs_after_it(
        self, hooks: Hooks, error: ChatAppError
    ) -> None:
        reached: list[AnswerRequest] = []

        def refuse(_asked: AnswerRequest) -> None:
            raise error

        hooks.before += [refuse, reached.append]
        with pytest.raises(type(error)) as raised:
            hooks.prepare(request())
        assert raised.value is error
        assert reached == []

    @pytest.mark.parametrize("fault", [SystemExit(1), gevent.Timeout(1), KeyboardInterrupt()])
    def test_no_fault_is_so_strange_that_a_request_or_an_answer_hangs(
        self, hooks: Hooks, fault: BaseException
    ) -> None:
        def breaks(*_args: Any) -> None:
            raise fault

        for place in (hooks.before, hooks.piece, hooks.after):
            place.append(breaks)
        with pytest.raises(InternalError):
            hooks.prepare(request())
        with pytest.raises(InternalError):
            hooks.moderated(info(), Written())([(TEXT, "a")])
        hooks.ended(result("done"))

    def test_a_fault_refuses_too_and_only_the_log_has_its_name(
        self, hooks: Hooks, caplog: pytest.LogCaptureFixture
    ) -> None:
        hooks.before.append(fails)
        with pytest.raises(InternalError) as raised:
            hooks.prepare(request())
        assert "secret" not in raised.value.message
        assert raised.value.__cause__ is None
        assert f"hook {HERE}:fails failed" in caplog.text
        assert "LookupError: secret detail" in caplog.text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("messages", []),
            ("messages", None),
            ("messages", ["hi"]),
            ("messages", [{"content": "hi"}]),
            ("model", ""),
            ("model", None),
            ("options", None),
        ],
    )
    def test_what_can_not_be_asked_is_a_fault_of_the_hook(
        self, hooks: Hooks, caplog: pytest.LogCaptureFixture, name: str, value: Any
    ) -> None:
        def spoils(asked: AnswerRequest) -> None:
            setattr(asked, name, value)

        hooks.before.append(spoils)
        with pytest.raises(InternalError):
            hooks.prepare(request())
        assert "spoils" in caplog.text
        assert name.rstrip("s") in caplog.text

    @pytest.mark.parametrize("status", [200, 399, 500])
    def test_a_refusal_is_a_status_of_the_400s(self, status: int) -> None:
        with pytest.raises(ValueError, match="400 to 499"):
            Refused("No.", status=status)
        assert Refused("No.").status == 403


class TestPiece:
    def test_each_gets_the_pieces_with_their_kind_before_they_are_written(
        self, hooks: Hooks
    ) -> None:
        seen, written = [], Written()

        def see(about: AnswerInfo, piece: str) -> None:
            seen.append((about.kind, piece, len(written.pieces)))

        hooks.piece.append(see)
        write = hooks.moderated(info(), written)
        assert write([(REASONING, "hm"), (TEXT, "a")])
        assert write([(TEXT, "b")])
        assert seen == [("reasoning", "hm", 0), ("text", "a", 1), ("text", "b", 2)]
        assert written.pieces == [(REASONING, "hm"), (TEXT, "a"), (TEXT, "b")]

    def test_without_one_nothing_stands_in_the_way(self, hooks: Hooks) -> None:
        written = Written()
        assert hooks.moderated(info(), written) is written

    @pytest.mark.parametrize(("hook", "error"), [("stops", StopAnswer), ("fails", InternalError)])
    def test_a_stop_or_a_fault_ends_the_answer_before_the_piece(
        self, hooks: Hooks, hook: str, error: type[ChatAppError], caplog: pytest.LogCaptureFixture
    ) -> None:
        def check(_info: AnswerInfo, piece: str) -> None:
            if piece == "bad" and hook == "stops":
                raise StopAnswer("Not this.")
            if piece == "bad":
                fails()

        hooks.piece.append(check)
        written = Written()
        with pytest.raises(error):
            hooks.moderated(info(), written)([(TEXT, "good"), (TEXT, "bad"), (TEXT, "more")])
        assert written.pieces == [(TEXT, "good")]
        assert ("check failed" in caplog.text) is (hook == "fails")
        assert StopAnswer.code == "moderated"

    def test_the_end_of_the_room_for_an_answer_comes_through(self, hooks: Hooks) -> None:
        hooks.piece.append(lambda _info, _piece: None)
        written = Written(room=2)
        assert not hooks.moderated(info(), written)([(TEXT, each) for each in "abc"])
        assert written.pieces == [(TEXT, "a"), (TEXT, "b")]

    def test_a_hook_can_keep_notes_for_an_answer(self, hooks: Hooks) -> None:
        """So it finds what is cut between two pieces."""

        def forbid(about: AnswerInfo, piece: str) -> None:
            tail = about.state["tail"] = (about.state.get("tail", "") + piece)[-20:]
            if "forbidden" in tail:
                raise StopAnswer("Not this.")

        hooks.piece.append(forbid)
        written = Written()
        with pytest.raises(StopAnswer):
            hooks.moderated(info(), written)([(TEXT, "forb"), (TEXT, "idden")])
        hooks.moderated(info(), written)([(TEXT, "idden")])
        assert written.pieces == [(TEXT, "forb"), (TEXT, "idden")]


class TestEnd:
    @pytest.mark.parametrize(
        ("status", "told"), [("done", "after"), ("stopped", "after"), ("failed", "failed")]
    )
    def test_the_hooks_for_this_end_are_told_and_no_others(
        self, hooks: Hooks, status: str, told: str
    ) -> None:
        heard: list[tuple[str, AnswerResult]] = []
        hooks.after.append(lambda each: heard.append(("after", each)))
        hooks.failed.append(lambda each: heard.append(("failed", each)))
        over = result(status)
        hooks.ended(over)
        assert heard == [(told, over)]

    def test_a_fault_is_logged_and_the_next_one_is_told_nevertheless(
        self, hooks: Hooks, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[AnswerResult] = []
        hooks.after += [fails, heard.append]
        hooks.ended(result("done"))
        assert len(heard) == 1
        assert f"hook {HERE}:fails failed" in caplog.text


def test_hooks_run_within_what_surrounds_them_and_it_is_left_also_after_a_fault() -> None:
    inside: list[str] = []

    @contextlib.contextmanager
    def surround() -> Iterator[None]:
        inside.append("in")
        try:
            yield
        finally:
            inside.append("out")

    hooks = Hooks(StallWatch(0.1), surround)
    hooks.before.append(lambda _: inside.append("before"))
    hooks.prepare(request())
    assert inside == ["in", "before", "out"]
    hooks.before.append(fails)
    with pytest.raises(InternalError):
        hooks.prepare(request())
    hooks.after += [fails, lambda _: inside.append("after")]
    inside.clear()
    hooks.ended(result("done"))
    assert inside == ["in", "out", "in", "after", "out"]


@pytest.mark.parametrize("place", ["before", "piece", "after"])
def test_a_hook_that_holds_up_the_worker_is_named(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(*_args: Any) -> None:
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass

    hooks = Hooks(StallWatch(0.02, active=lambda: True))
    getattr(hooks, place).append(slow)
    calls: dict[str, Callable[[], Any]] = {
        "before": lambda: hooks.prepare(request()),
        "piece": lambda: hooks.moderated(info(), Written())([(TEXT, "a")]),
        "after": lambda: hooks.ended(result("done")),
    }
    calls[place]()
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert "slow held up all streams" in caplog.text
