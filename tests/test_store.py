"""Conversations in memory: a tree of messages, its owner's only, and never more than the bound."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import Conflict, InvalidRequest, NotFound
from chatapp.store import MESSAGE_OVERHEAD, TITLE_MAX_CHARS, Conversation, Store, title_of
from tests.properties import FEW

ME, OTHER = "me", "other"


@pytest.fixture
def store() -> Store:
    return Store(1 << 20, 100)


def ask(
    store: Store, text: str, answer: str, conversation: str | None = None, edit: str | None = None
) -> Conversation:
    """Ask, and let the answer be written."""
    asked = store.ask(ME, conversation, text, answer, edit)
    store.update(answer, content=f"re {text}", status="done")
    return asked


def shown(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.path()]


def question_of(conversation: Conversation, text: str) -> str:
    return next(m.id for m in conversation.messages.values() if m.content == text)


def test_a_question_makes_its_conversation_and_a_pending_answer(store: Store) -> None:
    conversation = store.ask(ME, None, "What is  this?\n", "a1", None)
    assert conversation.title == "What is this?"
    assert [(m.role, m.status) for m in conversation.path()] == [
        ("user", "done"),
        ("assistant", "pending"),
    ]
    assert conversation.running == ["a1"]
    assert store.answer(ME, "a1").conversation_id == conversation.id


def test_questions_follow_each_other(store: Store) -> None:
    conversation = ask(store, "one", "a1")
    ask(store, "two", "a2", conversation.id)
    assert shown(store.get(ME, conversation.id)) == ["one", "re one", "two", "re two"]


def test_asking_again_and_editing_open_a_branch_and_the_old_one_stays(store: Store) -> None:
    conversation = ask(store, "one", "a1")
    ask(store, "two", "a2", conversation.id)
    store.ask_again(ME, "a1", "a3")
    store.update("a3", content="again", status="done")
    assert shown(conversation) == ["one", "again"]
    ask(store, "uno", "a4", conversation.id, edit=question_of(conversation, "one"))
    assert shown(conversation) == ["uno", "re uno"]
    assert len(conversation.messages) == 7


@pytest.mark.parametrize("status", ["pending", "streaming"])
def test_one_answer_at_a_time(store: Store, status: str) -> None:
    conversation = ask(store, "one", "a1")
    store.ask(ME, conversation.id, "two", "a2", None)
    store.update("a2", status=status)
    with pytest.raises(Conflict):
        store.ask(ME, conversation.id, "three", "a3", None)
    with pytest.raises(Conflict):
        store.ask_again(ME, "a1", "a4")
    assert shown(conversation) == ["one", "re one", "two", ""]


def test_a_full_conversation_takes_no_more() -> None:
    small = Store(1 << 20, 4)
    conversation = ask(small, "one", "a1")
    small.ask_again(ME, "a1", "a2")
    small.update("a2", status="done")
    with pytest.raises(InvalidRequest):
        small.ask(ME, conversation.id, "two", "a3", None)
    assert len(conversation.messages) == 3


class TestWithdrawing:
    """What the upstream refused leaves the conversation as it was before."""

    def test_the_first_question_takes_its_conversation_with_it(self, store: Store) -> None:
        conversation = store.ask(ME, None, "one", "a1", None)
        assert store.withdraw("a1") == conversation.id
        with pytest.raises(NotFound):
            store.get(ME, conversation.id)
        with pytest.raises(NotFound):
            store.answer(ME, "a1")
        assert store.page(ME, None, 10) == ([], None)

    def test_a_conversation_that_was_there_before_stays(self, store: Store) -> None:
        conversation = store.create(ME, "mine")
        store.ask(ME, conversation.id, "one", "a1", None)
        assert store.withdraw("a1") is None
        assert store.get(ME, conversation.id).path() == []

    def test_a_further_question(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        store.ask(ME, conversation.id, "two", "a2", None)
        assert store.withdraw("a2") is None
        assert shown(conversation) == ["one", "re one"]
        assert len(conversation.messages) == 2

    def test_asking_again_shows_the_path_from_before(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        store.ask_again(ME, "a1", "a3")
        store.withdraw("a3")
        assert shown(conversation) == ["one", "re one", "two", "re two"]

    def test_an_edit_shows_the_path_from_before(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        store.ask(ME, conversation.id, "uno", "a3", question_of(conversation, "one"))
        store.withdraw("a3")
        assert shown(conversation) == ["one", "re one", "two", "re two"]
        assert len(conversation.messages) == 4

    def test_not_what_somebody_has_gone_on_from(self, store: Store) -> None:
        """Between the end of a refused answer and its withdrawal another tab may ask."""
        conversation = store.ask(ME, None, "one", "a1", None)
        store.update("a1", status="failed")
        ask(store, "two", "a2", conversation.id)
        assert store.withdraw("a1") is None
        assert shown(conversation) == ["one", "", "two", "re two"]

    def test_twice_or_after_a_deletion_is_harmless(self, store: Store) -> None:
        store.ask(ME, None, "one", "a1", None)
        store.withdraw("a1")
        assert store.withdraw("a1") is None
        conversation = store.ask(ME, None, "one", "a2", None)
        store.delete(ME, conversation.id)
        assert store.withdraw("a2") is None


def test_other_peoples_conversations_are_not_found(store: Store) -> None:
    conversation = ask(store, "one", "a1")
    question = question_of(conversation, "one")
    mine = store.create(OTHER)
    for forbidden in (
        lambda: store.get(OTHER, conversation.id),
        lambda: store.rename(OTHER, conversation.id, "x"),
        lambda: store.delete(OTHER, conversation.id),
        lambda: store.answer(OTHER, "a1"),
        lambda: store.ask(OTHER, conversation.id, "x", "a2", None),
        lambda: store.ask_again(OTHER, "a1", "a2"),
        lambda: store.ask(OTHER, mine.id, "x", "a2", question),
        lambda: store.ask(ME, conversation.id, "x", "a2", "nothing"),
        lambda: store.ask(ME, conversation.id, "x", "a2", "a1"),
        lambda: store.ask_again(ME, question, "a2"),
    ):
        with pytest.raises(NotFound):
            forbidden()
    assert shown(store.get(ME, conversation.id)) == ["one", "re one"]
    assert store.page(OTHER, None, 10) == ([mine], None)
    assert mine.path() == []


def test_pages_go_from_the_newest_to_the_oldest_and_show_each_once(store: Store) -> None:
    made = [store.create(ME, str(n)).id for n in range(7)]
    store.create(OTHER, "other")
    ask(store, "touched", "a1", made[0])
    expected = [made[0], *reversed(made[1:])]
    got: list[str] = []
    cursor: int | None = None
    while True:
        page, cursor = store.page(ME, cursor, 3)
        got += [each.id for each in page]
        if cursor is None:
            break
    assert got == expected
    assert store.page(ME, None, 7)[1] is None


def test_a_late_save_of_a_deleted_conversation_is_lost(store: Store) -> None:
    conversation = store.ask(ME, None, "one", "a1", None)
    store.delete(ME, conversation.id)
    store.update("a1", content="late", status="done")
    with pytest.raises(NotFound):
        store.answer(ME, "a1")


def test_beyond_the_bound_what_was_not_touched_for_longest_goes_but_not_what_runs() -> None:
    store = Store(10 * MESSAGE_OVERHEAD, 100)
    running = store.ask(ME, None, "running", "r", None)
    old = ask(store, "old", "o")
    kept = ask(store, "kept", "k")
    new = ask(store, "new", "n")
    with pytest.raises(NotFound):
        store.get(ME, old.id)
    assert {c.id for c in store.page(ME, None, 10)[0]} == {running.id, kept.id, new.id}


@pytest.mark.parametrize("size", [1, 10_000])
def test_the_conversation_in_hand_stays_however_small_the_bound(size: int) -> None:
    store = Store(1024, 100)
    conversation = store.ask(ME, None, "x" * size, "a1", None)
    assert store.get(ME, conversation.id) is conversation
    store.ask(ME, None, "y", "a2", None)
    assert store.get(ME, conversation.id) is conversation


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "ask", "more", "again", "finish", "withdraw", "delete", "edit"]),
        st.integers(0, 20),
    ),
    max_size=40,
)


@FEW
@given(ACTIONS, st.sampled_from([1500, 6000, 1 << 20]))
def test_whatever_is_done_the_books_are_right_and_every_path_is_whole(  # noqa: C901 - one case each
    actions: list[tuple[str, int]], max_bytes: int
) -> None:
    """The counted size is the real one, every parent exists, and no answer is known twice."""
    store = Store(max_bytes, 8)
    for number, (action, choice) in enumerate(actions):
        conversations, _ = store.page(ME, None, 100)
        mine = conversations[choice % len(conversations)] if conversations else None
        messages = list(mine.messages.values()) if mine else []
        message = messages[choice % len(messages)] if messages else None
        try:
            match action:
                case "create":
                    store.create(ME)
                case "ask":
                    store.ask(ME, None, "x" * choice * 50, f"a{number}", None)
                case "more" if mine:
                    store.ask(ME, mine.id, "more", f"a{number}", None)
                case "edit" if mine and message:
                    store.ask(ME, mine.id, "edited", f"a{number}", message.id)
                case "again" if message:
                    store.ask_again(ME, message.id, f"a{number}")
                case "finish" if mine:
                    for answer in mine.running:
                        store.update(answer, content="y" * choice * 50, status="done")
                case "withdraw" if message:
                    store.withdraw(message.id)
                case "delete" if mine:
                    store.delete(ME, mine.id)
        except (Conflict, NotFound, InvalidRequest):
            pass
        left, _ = store.page(ME, None, 100)
        for conversation in left:
            assert conversation.size == MESSAGE_OVERHEAD + sum(
                each.size for each in conversation.messages.values()
            )
            assert {m.parent for m in conversation.messages.values()} <= {
                None,
                *conversation.messages,
            }
            path = conversation.path()
            assert (path[-1].id if path else None) == conversation.leaf
        idle = [each for each in left if not each.running]
        assert sum(each.size for each in left) <= max_bytes or len(idle) <= 1


def test_threads_that_ask_in_one_conversation_at_the_same_time_get_one_answer(
    store: Store,
) -> None:
    conversation = store.create(ME)
    start = threading.Barrier(8)
    taken: list[str] = []

    def compete(name: str) -> None:
        start.wait()
        try:
            store.ask(ME, conversation.id, name, name, None)
            taken.append(name)
        except Conflict:
            pass

    threads = [threading.Thread(target=compete, args=(f"a{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == 1
    assert conversation.running == taken


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (" a \n\t b ", "a b"),
        ("x" * TITLE_MAX_CHARS, "x" * TITLE_MAX_CHARS),
        ("x" * (TITLE_MAX_CHARS + 1), "x" * (TITLE_MAX_CHARS - 1) + "…"),
    ],
)
def test_a_title_is_the_beginning_of_the_question_on_one_line(text: str, title: str) -> None:
    assert title_of(text) == title
