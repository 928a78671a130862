"""Late pooling: each passage is the mean of its tokens' vectors from a pass over the whole document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from diptych.errors import AdapterOptionsError
from diptych.passages import MARK, PassageOptions, with_passages
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder
from diptych.types import Floats

LATE = PassageOptions(tokens=16, overlap=4, pooling="late")
LONG = " ".join(f"Sentence {n} holds word{n} and more." for n in range(30))


class Contextual(FakeDenseEncoder):
    """An encoder whose token vectors hold the token's place in the input and how many tokens the input has."""

    mean_pooled, normalized = True, False

    def __init__(self, max_tokens: int | None = None, *, mean_pooled: bool = True) -> None:
        super().__init__(dimension=3, max_tokens=max_tokens)
        self.normalized, self.mean_pooled = False, mean_pooled
        self.read: list[str] = []

    def token_vectors(self, inputs: Sequence[str]) -> list[Floats]:
        self.read += inputs
        counts = [len(own) for own in self.token_spans(inputs)]
        return [np.array([[n, count, 1] for n in range(count)], np.float32) for count in counts]


def encoded(inner: Contextual, own: str) -> tuple[Floats, list[tuple[int, int]]]:
    encoder = with_passages(inner, "dense", LATE, where="slot 'dense'")
    (vectors,) = encoder.encode_document([own])
    (places,) = encoder.places([own])
    return vectors, list(places)


@pytest.mark.parametrize("title", ["", "A long title"])
def test_each_passage_is_the_mean_of_its_own_tokens_in_the_whole_document(title: str) -> None:
    inner = Contextual()
    vectors, places = encoded(inner, f"{title}{MARK}{LONG}")
    assert inner.read == [f"{title} {LONG}".strip()]
    shift, total = len(title.split()), len(f"{title} {LONG}".split())
    for vector, (begin, end) in zip(vectors, places, strict=True):
        first = shift + len(LONG[:begin].split())
        last = first + len(LONG[begin:end].split()) - 1
        assert vector.tolist() == [(first + last) / 2, total, 1]


def test_a_document_that_is_longer_than_the_model_reads_is_read_in_stretches_of_whole_passages() -> None:
    inner = Contextual(max_tokens=48)
    vectors, places = encoded(inner, f"T{MARK}{LONG}")
    assert len(inner.read) > 3
    assert all(len(re.findall(r"\w+", own)) <= 48 and own.startswith("T ") for own in inner.read)
    assert len(vectors) == len(places)


@pytest.mark.parametrize(
    ("inner", "kind", "reason"),
    [
        (FakeDenseEncoder(), "dense", "does not show the vectors of its tokens"),
        (FakeSparseEncoder(), "sparse", "does not show the vectors of its tokens"),
        (Contextual(mean_pooled=False), "dense", "its vectors are something else than means of token vectors"),
        (Contextual(max_tokens=20), "dense", "it reads 20 tokens, which are less than two passages"),
    ],
)
def test_encoders_that_cannot_are_refused_with_the_reason(inner: Any, kind: Any, reason: str) -> None:
    with pytest.raises(AdapterOptionsError, match=rf"(?s)cannot pool late.*{reason}.*leave `passages.pooling` out"):
        with_passages(inner, kind, LATE, where="slot 'dense'")
