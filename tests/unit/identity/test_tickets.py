"""A ticket is good for one answer of one owner, for a short time, and as it was issued."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from chatapp.identity.tickets import MAX_TICKET_CHARS, Tickets
from chatapp.identity.visitor_cookie import Visitors
from tests.support.hypothesis_settings import FEW, MANY, TEXTS

TICKETS = Tickets(["a secret"], 300)
IDS = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=20)


@MANY
@given(IDS, TEXTS)
def test_a_ticket_names_the_owner_it_was_issued_for_and_fits_into_a_url(
    answer: str, owner: str
) -> None:
    ticket = TICKETS.issue(answer, owner)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", ticket)
    assert TICKETS.read(ticket, answer) == owner


@MANY
@given(IDS, IDS, TEXTS)
def test_it_is_for_no_other_answer(answer: str, other: str, owner: str) -> None:
    ticket = TICKETS.issue(answer, owner)
    if other != answer:
        assert TICKETS.read(ticket, other) is None


@FEW
@given(TEXTS, st.characters(max_codepoint=0x17F))
def test_no_character_of_it_can_be_changed_added_or_left_out(owner: str, new: str) -> None:
    ticket = TICKETS.issue("answer", owner)
    for place in range(len(ticket) + 1):
        before, after = ticket[:place], ticket[place:]
        for changed in (before + new + after[1:], before + new + after, before + after[1:]):
            if changed != ticket:
                assert TICKETS.read(changed, "answer") is None, changed


@pytest.mark.parametrize("place", range(-65, 0))
def test_no_character_of_the_signature_has_a_second_spelling(place: int) -> None:
    ticket = TICKETS.issue("answer", "owner")
    for new in "ABCDwxyz0189-_.+/=":
        changed = ticket[:place] + new + ticket[place:][1:]
        if changed != ticket:
            assert TICKETS.read(changed, "answer") is None


@MANY
@given(st.text())
def test_whatever_is_given_for_one_reading_it_never_fails(ticket: str) -> None:
    assert TICKETS.read(ticket, "answer") is None


def issued_at(monkeypatch: pytest.MonkeyPatch, seconds_ago: int) -> str:
    moment = int(time.time()) - seconds_ago
    with monkeypatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda _self: moment)
        return TICKETS.issue("answer", "owner")


@pytest.mark.parametrize(
    ("seconds_ago", "good"), [(0, True), (200, True), (400, False), (-60, False)]
)
def test_it_is_good_for_its_time_only(
    monkeypatch: pytest.MonkeyPatch, seconds_ago: int, good: bool
) -> None:
    """One from the future was issued by a clock that can't be trusted."""
    read = TICKETS.read(issued_at(monkeypatch, seconds_ago), "answer")
    assert read == ("owner" if good else None)


def test_another_secret_signs_other_tickets() -> None:
    assert Tickets(["another secret"], 300).read(TICKETS.issue("a", "o"), "a") is None


def test_a_ticket_is_no_cookie_and_a_cookie_no_ticket() -> None:
    """Both are signed by the same secret."""
    visitors = Visitors("a secret")
    _, cookie = visitors.new()
    assert TICKETS.read(cookie, "a") is None
    assert visitors.read(TICKETS.issue("a", "o")) is None


def test_nothing_of_a_text_that_is_too_long_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object) -> None:
        raise AssertionError("it was looked at")

    monkeypatch.setattr("itsdangerous.signer.Signer.unsign", never)
    assert TICKETS.read("a" * (MAX_TICKET_CHARS + 1), "a") is None
    with pytest.raises(AssertionError):
        TICKETS.read("a" * MAX_TICKET_CHARS, "a")


def test_an_owner_whose_name_does_not_fit_is_told_when_the_ticket_is_issued() -> None:
    longest = "".join(chr(0x4E00 + n * 37 % 20_000) for n in range(2000))
    with pytest.raises(ValueError, match="2000 characters"):
        TICKETS.issue("answer", longest)
