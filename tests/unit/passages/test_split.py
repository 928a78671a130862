"""Where documents are cut: at the best place that fits, nothing lost, nothing too long, code blocks whole."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from diptych.passages.text_splitter import Boundaries, Level, Spans, Split


def words(text: str) -> Spans:
    """A token a word; Chinese and Japanese characters are tokens of their own."""
    found = [match.span() for match in re.finditer(r"[\u3040-\u9fff]|[^\s\u3040-\u9fff]+", text)]
    return np.array(found, np.int32).reshape(-1, 2)


def passages(text: str, tokens: int, overlap: int = 0) -> list[str]:
    places = Split(len(text), words(text), Boundaries.of(text)).passages(lambda _: tokens, overlap)
    return [text[begin:end].rstrip() for begin, end in places]


def prose(seed: int, sentences: int) -> str:
    chance = random.Random(seed)
    text = ""
    for _ in range(sentences):
        text += " ".join(f"w{chance.randrange(1000)}" for _ in range(chance.randint(1, 30))).capitalize() + "."
        text += chance.choice([" ", " ", "\n", "\n\n", "\n\n## Part\n\n", "\n\n```\nx = 1. y\n\nz\n```\n\n"])
    return text.strip()


@pytest.mark.parametrize("seed", range(40))
def test_passages_read_every_token_within_the_limit_and_advance(seed: int) -> None:
    text, tokens, overlap = prose(seed, 30), 24 + seed, seed % 12
    spans = words(text)
    places = list(Split(len(text), spans, Boundaries.of(text)).passages(lambda _: tokens, overlap))
    first = [int(np.searchsorted(spans[:, 0], begin)) for begin, _ in places]
    last = [int(np.searchsorted(spans[:, 0], end)) - 1 for _, end in places]
    assert first[0] == 0
    assert last[-1] == len(spans) - 1
    assert all(end - begin < tokens for begin, end in zip(first, last, strict=True))
    shared = [end + 1 - begin for begin, end in zip(first[1:], last, strict=False)]
    assert all(0 <= own <= overlap for own in shared)
    assert first == sorted(set(first))


@pytest.mark.parametrize(
    ("text", "tokens", "overlap", "expected"),
    [
        (  # it ends before a heading rather than after a later paragraph
            "One two three four. Five six.\n\n# Next\n\nSeven eight.\n\nNine ten eleven twelve thirteen.",
            12, 0,
            ["One two three four. Five six.", "# Next\n\nSeven eight.\n\nNine ten eleven twelve thirteen."],
        ),
        (  # with a paragraph rather than a later sentence
            "One two three. Four five six.\n\nSeven eight. Nine ten eleven twelve.",
            9, 0,
            ["One two three. Four five six.", "Seven eight. Nine ten eleven twelve."],
        ),
        (  # an overlap begins with a sentence
            "A b c d e f. G h i. J k l m n o. P q r s.",
            12, 6,
            ["A b c d e f. G h i.", "G h i. J k l m n o.", "J k l m n o. P q r s."],
        ),
        ("A b c. D e f.\n\n# Next\n\nG h i j k l m.", 9, 4, ["A b c. D e f.", "# Next\n\nG h i j k l m."]),
    ],
)  # fmt: skip
def test_a_passage_ends_at_the_best_place(text: str, tokens: int, overlap: int, expected: list[str]) -> None:
    assert passages(text, tokens, overlap) == expected


def test_without_a_sentence_that_ends_words_are_kept_whole() -> None:
    text = " ".join(f"word{n}" for n in range(50))
    assert " ".join(passages(text, 8)) == text


def test_a_code_block_that_fits_is_not_cut() -> None:
    code = "```\na = 1. b\n\nc = 2. d\n```"
    text = f"One two three four five six seven. Eight nine ten.\n\n{code}\n\nEnd of it."
    assert any(code in passage for passage in passages(text, 14))


def test_a_code_block_that_does_not_fit_is_cut() -> None:
    code = "```\n" + "\n".join(f"line {n} of it" for n in range(20)) + "\n```"
    assert len(passages(code, 16)) > 4


@pytest.mark.parametrize(
    "text",
    [
        "这是第一句。这是第二句！还有一句？",
        "これは文です。次の文です。「はい。」と言った。",
        "पहला वाक्य। दूसरा वाक्य।",
        "Første her. «Andre.» Tredje!",
    ],
)
def test_sentences_end_in_any_script(text: str) -> None:
    ends = [place for place, level in Boundaries.of(text).cuts.items() if level is Level.SENTENCE and place < len(text)]
    assert ends
    assert all(text[:place].rstrip()[-1] in "。！？।.!」»" for place in ends)


@pytest.mark.parametrize("text", ["as in e.g. this one", "version 1.2.3 is out", "see www.debian.org now"])
def test_a_point_within_a_sentence_ends_none(text: str) -> None:
    assert not Boundaries.of(text).cuts


def test_headings_above_a_place_are_told_outermost_first_and_none_within_code() -> None:
    text = "# One\n\n## Two\n\ntext\n\n```\n# comment\n```\n\n## Three\n\nhere"
    boundaries = Boundaries.of(text)
    assert boundaries.path(text.index("text")) == ("One", "Two")
    assert boundaries.path(text.index("here")) == ("One", "Three")
    assert boundaries.path(0) == ()
