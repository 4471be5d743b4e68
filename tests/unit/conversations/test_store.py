"""Conversations in SQL: a tree of messages, its owner's only, the same in every database."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.outcome import Outcome
from chatapp.conversations.ledger import Ledger
from chatapp.conversations.store import MAX_TITLE_CHARS, Content, Conversation, Store
from chatapp.conversations.titles import title_of, title_of_exchange
from chatapp.database.database import Database
from chatapp.errors import Conflict, Interrupted, InvalidRequest, NotFound
from chatapp.generation.sampling import sampling_of

ME, OTHER = "me", "other"
YEAR = 365 * 86400.0


def store_on(database: Database, messages: int = 100, kept: int = 1000) -> Store:
    return Store(database, messages, kept, Ledger(database, YEAR))


@pytest.fixture
def store(database: Database) -> Store:
    return store_on(database)


def ask(
    store: Store, text: str, answer: str, conversation: str | None = None, edit: str | None = None
) -> Conversation:
    """Ask, and let the answer be written."""
    asked = store.ask(ME, conversation, Content(text), answer, edit)
    store.update(answer, content=Content(f"re {text}"), status="done")
    return asked


def shown(store: Store, conversation: Conversation) -> list[str]:
    return [message.content.text for message in store.get(ME, conversation.id).path()]


def question_of(store: Store, conversation: Conversation, text: str) -> str:
    messages = store.get(ME, conversation.id).messages
    return next(m.id for m in messages.values() if m.content.text == text)


def test_a_question_makes_its_conversation_and_a_pending_answer(store: Store) -> None:
    asked = store.ask(ME, None, Content("What is  this?\n"), "a1", None, "a-model")
    assert asked.title == "What is this?"
    assert [(m.role, m.status) for m in asked.path()] == [
        ("user", "done"),
        ("assistant", "pending"),
    ]
    assert asked.running == "a1"
    assert store.get(ME, asked.id) == asked
    answer = store.answer(ME, "a1")
    assert answer == asked.messages["a1"]
    assert (answer.conversation_id, answer.model) == (asked.id, "a-model")
    assert store.conversation_of(ME, "a1") == asked


def test_everything_that_an_answer_has_become_is_kept(store: Store) -> None:
    asked = store.ask(ME, None, Content("one"), "a1", None)
    became = {
        "content": Content("text\u2028\U0001f600"),
        "reasoning": "why",
        "status": "failed",
        "model": "m",
        "last_event": 7,
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    outcome = Outcome("stop", usage, "provider", Interrupted("…"))
    store.update("a1", **became, outcome=outcome)
    answer = store.get(ME, asked.id).messages["a1"]
    assert {name: getattr(answer, name) for name in became} == became
    assert answer.outcome.fields() == outcome.fields()


@pytest.mark.parametrize(
    ("text", "kept"), [("a\0b", "a\N{REPLACEMENT CHARACTER}b"), ("half \ud83d", "half ?")]
)
def test_what_a_database_can_not_take_is_replaced(store: Store, text: str, kept: str) -> None:
    asked = store.ask(ME, None, Content(text), "a1", None)
    store.update("a1", content=Content(text), reasoning=text, status="done")
    assert shown(store, asked) == [kept, kept]
    assert store.get(ME, asked.id).title.startswith(kept)  # type: ignore[union-attr]
    assert [each.id for each in store.page(ME, None, 9, text)[0]] == [asked.id]


def test_questions_follow_each_other(store: Store) -> None:
    conversation = ask(store, "one", "a1")
    ask(store, "two", "a2", conversation.id)
    assert shown(store, conversation) == ["one", "re one", "two", "re two"]


class TestBranches:
    def test_asking_again_and_editing_open_one_and_the_old_one_stays(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        store.ask_again(ME, "a1", "a3")
        store.update("a3", content=Content("again"), status="done")
        assert shown(store, conversation) == ["one", "again"]
        one = question_of(store, conversation, "one")
        ask(store, "uno", "a4", conversation.id, edit=one)
        assert shown(store, conversation) == ["uno", "re uno"]
        found = store.get(ME, conversation.id)
        assert len(found.messages) == 7
        uno = question_of(store, conversation, "uno")
        assert found.siblings()[None, "user"] == [one, uno]
        assert found.siblings()[one, "assistant"] == ["a1", "a3"]

    def test_any_message_shows_the_branch_through_it_that_was_written_last(
        self, store: Store
    ) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        ask(store, "zwei", "a3", conversation.id, edit=question_of(store, conversation, "two"))
        store.ask_again(ME, "a1", "a4")
        store.update("a4", content=Content("again"), status="done")
        one = question_of(store, conversation, "one")
        for through, path in (
            ("a1", ["one", "re one", "zwei", "re zwei"]),
            (question_of(store, conversation, "two"), ["one", "re one", "two", "re two"]),
            (one, ["one", "again"]),
            ("a3", ["one", "re one", "zwei", "re zwei"]),
        ):
            changed = store.change(ME, conversation.id, leaf=through)
            assert shown(store, conversation) == path
            assert changed.leaf == store.get(ME, conversation.id).leaf

    def test_none_is_chosen_while_an_answer_runs(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        store.ask(ME, conversation.id, Content("two"), "a2", None)
        with pytest.raises(Conflict):
            store.change(ME, conversation.id, leaf="a1", title="not this either")
        assert store.get(ME, conversation.id).title == "one – re one"
        assert shown(store, conversation)[-2:] == ["two", ""]

    def test_only_messages_of_the_conversation_count(self, store: Store) -> None:
        conversation, other = ask(store, "one", "a1"), ask(store, "two", "a2")
        for leaf in ("a2", "nothing", question_of(store, other, "two")):
            with pytest.raises(NotFound):
                store.change(ME, conversation.id, leaf=leaf)


@pytest.mark.parametrize("status", ["pending", "streaming"])
def test_one_answer_at_a_time(store: Store, status: str) -> None:
    conversation = ask(store, "one", "a1")
    store.ask(ME, conversation.id, Content("two"), "a2", None)
    store.update("a2", status=status)
    with pytest.raises(Conflict):
        store.ask(ME, conversation.id, Content("three"), "a3", None)
    with pytest.raises(Conflict):
        store.ask_again(ME, "a1", "a4")
    assert shown(store, conversation) == ["one", "re one", "two", ""]
    store.update("a2", status="failed")
    ask(store, "three", "a5", conversation.id)


def test_answers_that_nobody_ended_are_found(store: Store) -> None:
    ask(store, "over", "a1")
    store.ask(ME, None, Content("runs"), "a2", None)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert [each.id for each in store.unfinished(later)] == ["a2"]
    assert store.unfinished(datetime.now(UTC) - timedelta(minutes=1)) == []
    store.update("a2", status="failed")
    assert store.unfinished(later) == []


def test_a_full_conversation_takes_no_more(database: Database) -> None:
    small = store_on(database, messages=4)
    conversation = ask(small, "one", "a1")
    small.ask_again(ME, "a1", "a2")
    small.update("a2", status="done")
    with pytest.raises(InvalidRequest):
        small.ask(ME, conversation.id, "two", "a3", None)
    assert len(small.get(ME, conversation.id).messages) == 3


def test_an_owner_with_as_many_conversations_as_are_kept_loses_none(database: Database) -> None:
    """And may go on in them."""
    small = store_on(database, kept=2)
    first = ask(small, "one", "a1")
    small.create(ME)
    for one_more in (lambda: small.create(ME), lambda: small.ask(ME, None, "two", "a2", None)):
        with pytest.raises(InvalidRequest, match="Delete"):
            one_more()
    ask(small, "two", "a3", first.id)
    small.create(OTHER)
    small.delete(ME, first.id)
    small.create(ME)
    assert len(small.page(ME, None, 10)[0]) == 2


class TestWithdrawing:
    """What the upstream refused leaves the conversation as it was before."""

    def test_the_first_question_takes_its_conversation_with_it(self, store: Store) -> None:
        conversation = store.ask(ME, None, Content("one"), "a1", None)
        assert store.withdraw("a1") == conversation.id
        with pytest.raises(NotFound):
            store.get(ME, conversation.id)
        with pytest.raises(NotFound):
            store.answer(ME, "a1")
        assert store.page(ME, None, 10) == ([], None)

    def test_a_conversation_that_was_there_before_stays(self, store: Store) -> None:
        conversation = store.create(ME, "mine")
        store.ask(ME, conversation.id, Content("one"), "a1", None)
        assert store.withdraw("a1") is None
        assert store.get(ME, conversation.id).messages == {}
        ask(store, "two", "a2", conversation.id)

    def test_a_further_question(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        store.ask(ME, conversation.id, Content("two"), "a2", None)
        assert store.withdraw("a2") is None
        assert shown(store, conversation) == ["one", "re one"]
        assert len(store.get(ME, conversation.id).messages) == 2

    def test_asking_again_shows_the_path_from_before(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        store.ask_again(ME, "a1", "a3")
        store.withdraw("a3")
        assert shown(store, conversation) == ["one", "re one", "two", "re two"]

    def test_an_edit_shows_the_path_from_before(self, store: Store) -> None:
        conversation = ask(store, "one", "a1")
        ask(store, "two", "a2", conversation.id)
        edit = question_of(store, conversation, "one")
        store.ask(ME, conversation.id, Content("uno"), "a3", edit)
        store.withdraw("a3")
        assert shown(store, conversation) == ["one", "re one", "two", "re two"]
        assert len(store.get(ME, conversation.id).messages) == 4

    def test_not_what_somebody_has_gone_on_from(self, store: Store) -> None:
        """Between the end of a refused answer and its withdrawal another tab may ask."""
        conversation = store.ask(ME, None, Content("one"), "a1", None)
        store.update("a1", status="failed")
        ask(store, "two", "a2", conversation.id)
        assert store.withdraw("a1") is None
        assert shown(store, conversation) == ["one", "", "two", "re two"]

    def test_twice_or_after_a_deletion_is_harmless(self, store: Store) -> None:
        store.ask(ME, None, Content("one"), "a1", None)
        store.withdraw("a1")
        assert store.withdraw("a1") is None
        conversation = store.ask(ME, None, Content("one"), "a2", None)
        store.delete(ME, conversation.id)
        assert store.withdraw("a2") is None


def test_other_peoples_conversations_are_not_found(store: Store) -> None:
    conversation = ask(store, "one", "a1")
    question = question_of(store, conversation, "one")
    mine = store.create(OTHER)
    forbidden: list[Callable[[], object]] = [
        lambda: store.get(OTHER, conversation.id),
        lambda: store.change(OTHER, conversation.id, title="x"),
        lambda: store.delete(OTHER, conversation.id),
        lambda: store.answer(OTHER, "a1"),
        lambda: store.conversation_of(OTHER, "a1"),
        lambda: store.ask(OTHER, conversation.id, Content("x"), "a2", None),
        lambda: store.ask_again(OTHER, "a1", "a2"),
        lambda: store.ask(OTHER, mine.id, Content("x"), "a2", question),
        lambda: store.ask(ME, conversation.id, Content("x"), "a2", "nothing"),
        lambda: store.ask(ME, conversation.id, Content("x"), "a2", "a1"),
        lambda: store.ask_again(ME, question, "a2"),
        lambda: store.get(ME, "no\0id"),
        lambda: store.answer(ME, "no\0id"),
        lambda: store.answer(ME, question),
    ]
    for attempt in forbidden:
        with pytest.raises(NotFound):
            attempt()
    assert shown(store, conversation) == ["one", "re one"]
    assert store.page(OTHER, None, 10) == ([mine], None)
    assert store.page(OTHER, None, 10, "one") == ([], None)


class TestPages:
    def read(self, store: Store, limit: int, query: str | None = None) -> Iterator[str]:
        cursor: str | None = None
        while True:
            page, cursor = store.page(ME, cursor, limit, query)
            yield from (each.id for each in page)
            if cursor is None:
                return

    def test_they_go_from_the_newest_to_the_oldest_and_show_each_once(self, store: Store) -> None:
        made = [store.create(ME, str(n)).id for n in range(7)]
        store.create(OTHER, "other")
        ask(store, "touched", "a1", made[0])
        assert list(self.read(store, 3)) == [made[0], *reversed(made[1:])]
        assert store.page(ME, None, 7)[1] is None
        assert all(each.messages == {} for each in store.page(ME, None, 7)[0])

    def test_changes_in_between_hide_and_double_nothing_else(self, store: Store) -> None:
        made = [store.create(ME, str(n)).id for n in range(6)]
        pages = self.read(store, 2)
        assert [next(pages), next(pages)] == [made[5], made[4]]
        store.delete(ME, made[4])  # The one that the cursor names.
        store.create(ME, "new")
        ask(store, "touched", "a1", made[5])
        store.change(ME, made[3], title="renamed")
        assert list(pages) == [made[3], made[2], made[1], made[0]]

    @pytest.mark.parametrize("cursor", ["x", "", "1", ".", "1.", "-1.a", "9" * 19 + ".a", "1.a\0"])
    def test_a_cursor_of_nobodys_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidRequest):
            store.page(ME, cursor, 3)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("apples", "title"),
            ("APPLE", "title"),
            ("re what", "title"),
            ("ÄRGER", "message"),
            ("ärger", "message"),
            ("苹果", "message"),
            ("100%", "message"),
            ("0%s", None),
            ("a_b", "message"),
            ("axb", None),
            (r"c:\d", "message"),
            ("'; --", None),
        ],
    )
    def test_a_search_finds_titles_and_messages_in_any_case(
        self, store: Store, query: str, found: str | None
    ) -> None:
        """And takes nothing of the text for a pattern."""
        titled = ask(store, "What do Apples cost?", "a1")
        text = r"Großer Ärger: 苹果 at 100%, a_b and C:\Dir"
        told = ask(store, text, "a2", store.create(ME, "plain").id)
        ids = {"title": titled.id, "message": told.id}
        assert list(self.read(store, 1, query)) == ([ids[found]] if found else [])


def test_settings_are_set_one_by_one_and_removed(store: Store) -> None:
    conversation = store.create(ME, None, {"model": "a", "temperature": 0.5})
    assert store.get(ME, conversation.id).settings == {"model": "a", "temperature": 0.5}
    changed = store.change(
        ME, conversation.id, settings={"model": None, "top_p": 1, "system_prompt": "Ü\0"}
    )
    expected = {"temperature": 0.5, "top_p": 1, "system_prompt": "Ü\0"}
    assert changed.settings == store.get(ME, conversation.id).settings == expected
    assert sampling_of(changed.settings, 100) == {"temperature": 0.5, "top_p": 1}
    assert store.ask(ME, conversation.id, Content("one"), "a1", None).settings == expected


def test_a_late_save_of_a_deleted_conversation_is_lost(store: Store) -> None:
    conversation = store.ask(ME, None, Content("one"), "a1", None)
    assert store.delete(ME, conversation.id) == ["a1"]
    assert store.update("a1", content=Content("late"), status="done") is None
    with pytest.raises(NotFound):
        store.answer(ME, "a1")


class TestTitles:
    def test_the_first_answer_adds_to_a_question_that_says_little(self, store: Store) -> None:
        conversation = store.ask(ME, None, Content("hi"), "a1", None)
        title = store.update("a1", content=Content("**Hello** there! How are you?"), status="done")
        assert title == store.get(ME, conversation.id).title == "hi – Hello there!"
        ask(store, "more", "a2", conversation.id)
        assert store.get(ME, conversation.id).title == title

    def test_not_where_it_failed_or_the_question_says_enough(self, store: Store) -> None:
        conversation = store.ask(ME, None, Content("hi"), "a1", None)
        assert store.update("a1", content=Content("Hel"), status="failed") is None
        assert store.get(ME, conversation.id).title == "hi"
        conversation = store.ask(ME, None, Content("A question that says enough"), "a2", None)
        assert store.update("a2", content=Content("Yes."), status="done") is None

    def test_a_name_given_by_hand_stays(self, store: Store) -> None:
        conversation = store.ask(ME, None, Content("hi"), "a1", None)
        store.change(ME, conversation.id, title="mine")
        assert store.update("a1", content=Content("Hello!"), status="done") is None
        assert store.get(ME, conversation.id).title == "mine"
        named = store.create(ME, "named")
        ask(store, "hi", "a2", named.id)
        assert store.get(ME, named.id).title == "named"

    @pytest.mark.parametrize(
        ("text", "title"),
        [
            (" a \n\t b ", "a b"),
            ("x" * MAX_TITLE_CHARS, "x" * MAX_TITLE_CHARS),
            ("x" * (MAX_TITLE_CHARS + 1), "x" * (MAX_TITLE_CHARS - 1) + "…"),
        ],
    )
    def test_it_is_the_beginning_of_the_question_on_one_line(self, text: str, title: str) -> None:
        assert title_of(text) == title

    @given(st.text(max_size=14), st.text(max_size=300))
    def test_that_of_an_exchange_is_one_line_and_bounded(self, question: str, text: str) -> None:
        title = title_of_exchange(title_of(question), text)
        assert len(title) <= MAX_TITLE_CHARS
        assert title == " ".join(title.split())


def test_everything_of_an_owner_can_be_forgotten(store: Store) -> None:
    ask(store, "one", "a1")
    kept = store.ask(OTHER, None, Content("theirs"), "b1", None)
    ask(store, "two", "a2")
    assert sorted(store.delete_all(ME)) == ["a1", "a2"]
    assert store.page(ME, None, 9)[0] == []
    assert [each.id for each in store.page(OTHER, None, 9)[0]] == [kept.id]
    assert store.delete_all(ME) == []
