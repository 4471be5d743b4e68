"""Sentences are cut at the same places however the text arrives."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.answers.text.sentences import LIMIT, SentenceCutter
from tests.support.hypothesis_settings import RICH


def boundaries(pieces: list[str]) -> list[int]:
    """The offsets in the joined text after which the cutter says that a sentence is complete."""
    cutter = SentenceCutter()
    found: list[int] = []
    begin = 0
    for piece in pieces:
        offsets = cutter.feed(piece)
        assert all(0 <= offset <= len(piece) for offset in offsets)
        found += [begin + offset for offset in offsets]
        begin += len(piece)
    return found


def check(marked: str) -> None:
    """`marked` has ¦ at every boundary inside the text."""
    text = marked.replace("¦", "")
    for pieces in ([text], list(text)):
        ends = [0, *boundaries(pieces), len(text)]
        assert "¦".join(text[a:b] for a, b in pairwise(ends) if a < b) == marked


@pytest.mark.parametrize(
    "marked",
    [
        "Hello world.¦ How are you?¦ Fine!¦ Really?!¦ Yes",
        "One.¦  Two.¦\tThree.¦\u00a0Four",
        "So do I.¦ It is late.¦ He said so himself.¦ In 2024.¦ Then",
        "foo.bar a?b=c foo!bar x != y ?.z",
        "It works (it does).¦ It works.¦ (It does.) ¦Really.",
        "This, e.g., is it.¦ And that!, too.",
    ],
)
def test_english_ends_after_the_marks_and_white_space_leads(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "你好。¦我很好！¦你呢？¦好的｡¦再见",
        "真的吗？！¦当然。。。¦好",
        "（见上文。）¦下一句。¦【完。】¦再来",
        "今日は。¦「はい。」¦そうです。",
        "好！，然后走了。¦对。、不",
        "你好。¦ 再见。\n¦好",
    ],
)
def test_chinese_and_japanese_end_after_wide_marks_and_their_closers(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "使用 Python 3.12。¦Then run it.¦你好！¦OK.¦ 好",
        "This is it.¦“Really” it is?¦这是",
        "版本3.中文 v1.2.中文",
        "Dr.王来了，etc.等等。¦Foo Inc.是一家公司。¦Foo Inc. 是公司",
        "円周率は３．１４です．¦次に",
        "안녕하세요.¦ 반갑습니다.",
    ],
)
def test_mixed_scripts(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        'He said "Go!" and left.¦ "Why?" ¦Then he ran.¦ "No".¦ "Yes."',
        "She said “Go.” – and ‘why?’ he asked.¦ “Now.” ¦We left.",
        "他说：“好！”¦然后“走。”，再见。",
        '他说"你好。"¦然后。¦"好。"¦走',
        "(Is it?) he asked.¦ [Yes!] ¦Well.",
    ],
)
def test_closing_quotes_stay_and_a_lower_case_word_after_them_goes_on(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "It is 3.14 or 1.000,00 or v1.2.3 or 5.¦ Then",
        "See example.com or a.py or https://a.b/c?d=1.2.¦ Then",
        ".NET is it.¦ It has .gitignore and node.js.¦ Yes",
    ],
)
def test_decimals_versions_domains_and_files_are_not_cut(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "Dr. Smith, Mr. A, Mrs. B, Ms. C, Prof. D and St. Louis vs. Rome.¦ Yes",
        "J. R. R. Tolkien, J.R.R. Tolkien and John F. Kennedy met.¦ Yes",
        "The U.S. Army, e.g. here, i.e. there, (e.g. this).¦ Yes",
        "At 5 p.m. on Jan. 5 approx. five.¦ At 5 a.m. ¦We met.",
        "No. ¦I mean No. 5, see Fig. 3 and p. 4 by Foo et al. (2019).¦ Yes",
        "Apples etc. and pears etc. ¦They come from Foo Inc. & Co. in Rome.¦ Yes",
        "It is written in C.¦ It is under /etc.¦ It's John's.¦ Take vitamin C.¦ Yes",
        "We met in the U.S.¦\nYes",
    ],
)
def test_abbreviations_and_initials_do_not_end_a_sentence(marked: str) -> None:
    check(marked.replace("¦\n", "\n¦"))


@pytest.mark.parametrize(
    "marked",
    [
        "1. First item.¦ More.\n¦2. Second\n¦10) Third.¦ More",
        "- a. One.¦ Two.\n¦  iv. Three\n¦> 3. Four\n¦* Five.¦ Six",
        "## 1. Title\n¦## 2.3. Title\n¦**4. Bold.**¦ Text\n¦Step 5. Do it.¦ Well",
    ],
)
def test_list_numbers_do_not_end_a_sentence_and_items_come_line_by_line(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "wait... what?¦ Well… ¦Maybe.¦ Well… maybe",
        "...and so on.¦ well…maybe ... or not... ¦It is.",
        "嗯……¦也许吧。¦等等...¦好",
        "What?..¦ Yes!...¦ No",
    ],
)
def test_an_ellipsis_ends_a_sentence_unless_a_lower_case_word_follows(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "**Note.**¦ It is _so._¦ And ~~old.~~¦ *New!*¦ Yes",
        "**重点。**¦下一句。¦**注意**：好。¦*强调*。",
        "Foo.[1][2]¦ Bar.[^3]¦ ![alt](x.png) a [1]",
        "好。¦[链接](x)。¦`code`。",
    ],
)
def test_markdown_closers_and_reference_numbers_stay_with_the_sentence(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "Run `a. b`.¦ Then ``c` d. E`` and `! f`!¦ Yes",
        "An `open tick. Here\n¦Next.¦ Line",
        "An `` open pair. ` Here\n\n".replace("\n\n", "\n¦\nNext.¦ Line"),
        r"An \` escaped tick.¦ Here",
        "```a. b``` is.¦ Yes",
        "`代码。代码`。¦好",
    ],
)
def test_code_spans_are_not_cut_and_end_with_their_line(marked: str) -> None:
    check(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "So:\n¦```py a. b\n¦x = 1. # A. B\n¦\n    y!\n¦```\n¦Done.¦ Yes",
        "~~~ a. ` b ~~~\n¦a. b\n¦```\n¦c. d\n¦~~~~  \n¦Done.¦ Yes",
        "````\n¦```\n¦a. b\n¦````\n¦Done.¦ Yes",
        "```\n¦    ```\n¦a. b\n¦``` x\n¦c. d\n¦   ```\n¦Done.¦ Yes",
        "    ```\n¦Not a fence.¦ Yes",
        "~~\n¦Not a fence.¦ ~~~ x\n¦Not.¦ Yes",
        "1. Do:\n¦\n    ```sh\n¦    a. b\n¦    ```\n¦   Done.¦ Yes",
        "- ```\n¦  a. b\n¦  ```\n¦Done.¦ Yes",
        "> ```\n¦> a. b\n¦> ```\n¦Done.¦ Yes",
        "- a\n¦b\n¦    ```\n¦Not a fence.¦ Yes",
    ],
)
def test_fenced_code_comes_line_by_line_and_only_its_own_fence_closes_it(marked: str) -> None:
    check(marked)


def test_table_rows_are_whole_lines() -> None:
    check("| A. B | c! D |\n¦|---|---|\n¦  | 好。好 | `x` e. F |\n¦After.¦ Yes")
    check("> | A. B |\n¦" + "| " + "A. B " * LIMIT + "|\n¦After.¦ Yes")


@pytest.mark.parametrize(
    "marked",
    [
        "A\n¦B\r\n¦C\r¦D.\r\n¦\r\nE.\r¦\rF",
        "One.\n¦\n\n  \nTwo.\n¦\t\n",
        "\n\nOne\n¦\n",
        "One.¦  \nTwo",
        'One "two."  \n¦Three',
    ],
)
def test_a_line_end_is_a_boundary_and_blank_lines_lead_the_next_sentence(marked: str) -> None:
    check(marked)


def test_a_line_end_is_reported_with_itself_and_a_mark_with_the_character_after_it() -> None:
    cutter = SentenceCutter()
    assert [cutter.feed(piece) for piece in ("Hello\n", "One", ".", '"', " ", "Two.", "")] == [
        [6], [], [], [], [], [0], []
    ]  # fmt: skip
    assert cutter.feed(" Three") == [0]


@given(RICH, st.randoms(use_true_random=False))
def test_any_division_of_the_text_gives_the_same_boundaries(
    text: str, choose: random.Random
) -> None:
    whole = boundaries([text])
    assert boundaries(list(text)) == whole
    places = sorted(choose.choices(range(len(text) + 1), k=choose.randrange(12)))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    assert "".join(pieces) == text
    assert boundaries(pieces) == whole


@given(RICH, st.integers(1, 9))
def test_events_split_where_the_writer_hears_of_a_boundary_are_whole_for_every_reader(
    text: str, size: int
) -> None:
    writer, reader = SentenceCutter(), SentenceCutter()
    events: list[str] = []
    for begin in range(0, len(text), size):
        chunk = text[begin : begin + size]
        ends = [0, *writer.feed(chunk), len(chunk)]
        events += [chunk[a:b] for a, b in pairwise(ends) if a < b]
    assert "".join(events) == text
    for event in events:
        assert set(reader.feed(event)) <= {0, len(event)}
    assert boundaries(events) == boundaries([text])


@given(RICH, RICH)
def test_what_follows_the_next_character_changes_no_boundary(text: str, more: str) -> None:
    """So nothing undecided ever lies inside text that was already fed."""
    before = boundaries([text])
    assert [end for end in boundaries([text + more]) if end < len(text)] == [
        end for end in before if end < len(text)
    ]


@given(RICH)
def test_each_boundary_is_reported_once_and_no_sentence_is_blank(text: str) -> None:
    ends = boundaries(list(text))
    assert ends == sorted(set(ends))
    assert all(text[a:b].strip() for a, b in pairwise([0, *ends]))


@given(RICH)
def test_no_boundary_falls_inside_cr_lf_and_no_sentence_goes_on_after_its_line(text: str) -> None:
    ends = boundaries([text])
    assert not [end for end in ends if text[end - 1 : end + 1] == "\r\n"]
    for line in re.finditer(r"[^\r\n]*(\r\n|\n|\r(?!\Z))", text):
        last = max((end for end in ends if end <= line.end()), default=0)
        assert not text[last : line.end()].strip()


@pytest.mark.parametrize("unit", ["x", " ", ".", "a.", "`", "*", "| a. ", "...[1", '。"', "```\r"])
def test_memory_is_bounded_whatever_the_text(unit: str) -> None:
    cutter = SentenceCutter()
    for _ in range(2_000):
        cutter.feed(unit * 3)
    cutter.feed(unit * 20_000)
    held = [getattr(cutter, name) for name in SentenceCutter.__slots__]
    assert sum(len(value) for value in held if isinstance(value, str)) <= 4 * LIMIT


def test_rules_that_look_at_a_line_hold_on_a_very_long_one() -> None:
    check("x" * 5_000 + ".¦ Dr. A and 3.14 `a. b`.¦ Yes\n¦" + "y " * 5_000 + "e.g. this.¦ No")
    check(" " * 5_000 + "\nA.\n¦" + "```" + "x" * 5_000 + "\n¦a. b\n¦" + "```\n¦Done.¦ Yes")
