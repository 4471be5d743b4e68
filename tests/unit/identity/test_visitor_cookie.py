"""A visitor is whoever has a cookie that we signed; the secret is one for all workers."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import ConfigError
from chatapp.identity.visitor_cookie import SECRET_FILE, Visitors, kept_secret
from tests.support.hypothesis_settings import FEW


def test_a_cookie_of_ours_names_its_visitor_in_every_worker() -> None:
    owner, cookie = Visitors(["secret"]).new()
    assert Visitors(["secret"]).read(cookie) == owner


def test_visitors_are_different_and_their_ids_can_not_be_guessed() -> None:
    visitors = Visitors(["secret"])
    owners = {visitors.new()[0] for _ in range(100)}
    assert len(owners) == 100
    assert all(len(owner) > 20 for owner in owners)


def test_a_cookie_of_another_secret_is_nobodys() -> None:
    _, cookie = Visitors(["one"]).new()
    assert Visitors(["two"]).read(cookie) is None


@FEW
@given(st.integers(0, 200), st.characters(codec="latin-1"))
def test_a_cookie_that_was_changed_anywhere_is_nobodys(place: int, character: str) -> None:
    visitors = Visitors(["secret"])
    owner, cookie = visitors.new()
    place %= len(cookie)
    forged = cookie[:place] + character + cookie[place + 1 :]
    # The last character of base64 carries bits that mean nothing: only the same visitor may pass.
    assert (
        visitors.read(forged) in (None, owner)
        if place == len(cookie) - 1
        else (forged == cookie or visitors.read(forged) is None)
    )


@FEW
@given(st.text(max_size=60))
def test_whatever_a_cookie_holds_reading_it_never_fails(cookie: str) -> None:
    assert Visitors(["secret"]).read(cookie) is None


@pytest.mark.parametrize("cookie", ["", ".", "a.", ".a", "a.b.c", "\ud800", "x" * 100_000])
def test_cookies_that_are_none(cookie: str) -> None:
    assert Visitors(["secret"]).read(cookie) is None


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "instance"
    secret = kept_secret(folder)
    assert len(secret) > 30
    assert kept_secret(folder) == secret
    assert stat.S_IMODE((folder / SECRET_FILE).stat().st_mode) == 0o600
    assert [each.name for each in folder.iterdir()] == [SECRET_FILE]


def test_workers_that_need_the_secret_at_the_same_moment_get_the_same(tmp_path: Path) -> None:
    start, secrets = threading.Barrier(8), set()

    def need() -> None:
        start.wait()
        secrets.add(kept_secret(tmp_path))

    threads = [threading.Thread(target=need) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(secrets) == 1
    assert [each.name for each in tmp_path.iterdir()] == [SECRET_FILE]


def test_a_folder_that_can_not_be_used_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="CHATAPP_SECRET"):
        kept_secret(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_secret_that_is_none_is_an_error_and_not_a_key_that_all_can_guess(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / SECRET_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=SECRET_FILE):
        kept_secret(tmp_path)
