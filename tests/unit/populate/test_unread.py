"""How much of its documents an encoder leaves unread: the counts, the sentences, and where they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.config.models import SlotConfig
from diptych.registry import Registry
from diptych.reports import UnreadTokens
from diptych.slots.slot import Slot
from diptych.slots.unread import FIRST, LEAST, UnreadCounter, unread_tokens, unread_warnings
from diptych.testing import FakeDenseEncoder


def slot_of(fakes: Registry, **options: Any) -> Slot:
    return Slot("dense", SlotConfig(adapter="fake-dense", options=options), None, fakes)


class Reads(FakeDenseEncoder):
    """Reads ten words of a document, and notes how much it is given to tokenise."""

    def __init__(self) -> None:
        super().__init__(max_tokens=10)
        self.given: list[int] = []

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        self.given += map(len, inputs)
        return super().token_spans(inputs)


class Broken(FakeDenseEncoder):
    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        raise ValueError("no tokenizer")


def with_encoder(fakes: Registry, encoder: Any) -> Slot:
    slot = slot_of(fakes)
    slot._encoder = encoder
    return slot


def test_tokens_beyond_the_limit_are_unread(fakes: Registry) -> None:
    texts = ["word " * 30, "word " * 10, "word " * 8 + "longer-word " * 2]
    assert unread_tokens(slot_of(fakes, max_tokens=10), texts) == UnreadTokens(10, 3, 2, 52, 22)


def test_an_encoder_without_a_limit_is_not_counted(fakes: Registry) -> None:
    assert unread_tokens(slot_of(fakes), ["word " * 30]) is None


def test_texts_that_cannot_be_too_long_are_not_tokenised(fakes: Registry) -> None:
    encoder = Reads()
    found = unread_tokens(with_encoder(fakes, encoder), ["a b", "0123456789", "ü" * 6])
    assert encoder.given == [12 // 2], "six characters of twelve bytes may be more than ten tokens"
    assert found is not None
    assert (found.documents, found.longer, found.unread) == (3, 0, 0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("word " * 20, 20),
        ("word " * 10_000, 10_000),  # estimated from the beginning
        ("word " * 5 + " " * 5_000 + "word " * 1_000, None),  # tokenised further, until the limit is passed
        ("word " * 5 + " " * 50_000, 5),
    ],
)
def test_the_length_of_a_long_text_is_estimated_from_as_much_as_is_needed(
    fakes: Registry, text: str, tokens: int | None
) -> None:
    encoder = Reads()
    found = unread_tokens(with_encoder(fakes, encoder), [text])
    assert found is not None
    assert found.longer == (tokens is None or tokens > 10)
    if tokens is not None:
        assert found.tokens == pytest.approx(tokens, rel=0.05)
        assert sum(encoder.given) <= LEAST or tokens == 5


def test_a_sample_is_counted_where_counting_takes_too_long_beside_encoding(fakes: Registry) -> None:
    for seconds, counted in ((1000.0, 1000), (0.0, FIRST)):
        counter, slot = UnreadCounter(), slot_of(fakes, max_tokens=10)
        for _ in range(2):
            counter.count(slot, ["word " * 11] * 500, seconds)
        assert counter.total is not None
        assert (counter.total.documents, counter.total.sampled) == (counted, counted < 1000)
    assert str(counter.total).startswith("100% of a sample of 256 documents")


def test_an_encoder_that_cannot_count_may_still_encode(fakes: Registry) -> None:
    counter = UnreadCounter()
    for _ in range(2):
        counter.count(with_encoder(fakes, Broken(max_tokens=10)), ["word " * 30], 1.0)
    assert counter.total is None
    what = "slot 'dense': how much of the documents its encoder reads is unknown"
    assert counter.failure == f"{what}: ValueError: no tokenizer"


def test_a_warning_says_what_to_do_where_more_than_a_tenth_is_unread() -> None:
    found = {"dense": UnreadTokens(126, 10, 4, 1000, 110), "other": UnreadTokens(126, 10, 4, 1000, 90)}
    (warning,) = unread_warnings(found)
    assert warning.startswith("slot 'dense': 40% of 10 documents are longer than 126 tokens, 11% of all tokens unread")
    assert "passages: {tokens: 126}" in warning
