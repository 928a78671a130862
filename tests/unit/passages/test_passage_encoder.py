"""`PassageEncoder`: encodes each passage as the wrapped encoder encodes that text, in one vector per passage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych import hookimpl
from diptych.errors import AdapterOptionsError, DocumentError, HookError
from diptych.passages import (
    MARK,
    ContextRequest,
    PassageEncoder,
    PassageHooks,
    PassageOptions,
    SplitRequest,
    with_passages,
)
from diptych.passages.encoder import LastUsed
from diptych.passages.text_splitter import Spans
from diptych.protocols import DenseEncoder, MultiVectorEncoder, TokenLimit
from diptych.registry import Registry
from diptych.testing import FakeDenseEncoder, FakeMultiVectorEncoder, FakeSparseEncoder, fakes_plugin

OPTIONS = PassageOptions(tokens=16, overlap=4)
LONG = " ".join(f"Sentence {n} holds word{n} and more." for n in range(30))


def wrapped(inner: Any = None, kind: Any = "dense", options: PassageOptions = OPTIONS) -> PassageEncoder:
    return with_passages(inner or FakeDenseEncoder(max_tokens=32), kind, options, where="slot 'dense'")


def read(encoder: PassageEncoder, own: str) -> list[str]:
    """What is encoded of each passage of an input."""
    (document,) = encoder.splitter.split([own])
    return encoder.splitter.read(document)


def test_each_vector_is_that_of_its_passage_with_the_title_before_it() -> None:
    inner = FakeDenseEncoder(max_tokens=32)
    encoder = wrapped(inner)
    (vectors,) = encoder.encode_document([f"A title{MARK}{LONG}"])
    (places,), texts = encoder.places([f"A title{MARK}{LONG}"]), read(encoder, f"A title{MARK}{LONG}")
    assert len(places) > 8
    assert texts == [f"A title {LONG[begin:end]}" for begin, end in places]
    assert all(len(text.split()) <= OPTIONS.tokens for text in texts)
    np.testing.assert_allclose(vectors, inner.encode_document(texts), atol=1e-6)


def test_a_document_that_fits_is_encoded_as_without_passages() -> None:
    inner = FakeDenseEncoder(max_tokens=32)
    (vectors,) = wrapped(inner).encode_document([f"A title{MARK}A short text."])
    np.testing.assert_allclose(vectors, inner.encode_document(["A title A short text."]), atol=1e-6)


def test_one_by_one_or_in_a_batch_the_vectors_are_the_same() -> None:
    encoder, inputs = wrapped(), [f"T{MARK}{LONG}", "short", f"{MARK}{LONG[:300]}", ""]
    batch = encoder.encode_document(inputs)
    for alone, among in zip((encoder.encode_document([own])[0] for own in inputs), batch, strict=True):
        np.testing.assert_array_equal(alone, among)


class Counting(FakeDenseEncoder):
    """Counts the texts whose tokens are told."""

    told = 0

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        self.told += len(texts)
        return super().token_spans(texts)


def test_a_document_is_not_cut_again_for_its_hits() -> None:
    inner, inputs = Counting(max_tokens=32), [f"T{MARK}{LONG}", f"{MARK}{LONG[:300]}", "", f"{MARK}\ud800 half"]
    expected = [document.places for document in wrapped().splitter.split(inputs)]
    encoder = wrapped(inner)
    encoder.encode_document(inputs[:2])
    told = inner.told
    assert encoder.places(inputs[:2]) == expected[:2]
    assert inner.told == told
    assert encoder.places(inputs) == expected == encoder.places(inputs)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.booleans()), max_size=40), st.integers(4, 12))
def test_values_that_were_used_last_are_kept_within_a_limit(uses: list[tuple[int, int, bool]], most: int) -> None:
    known, kept = LastUsed[tuple[int, int], str](most, len), dict[tuple[int, int], str]()
    for name, size, if_room in uses:
        key, value = (name, size), str(name) * size
        assert known.get([key, key]) == [kept.get(key)] * 2
        if key in kept:
            kept[key] = kept.pop(key)
        known.add({key: value}, if_room=if_room)
        if size <= most and not (if_room and sum(map(len, kept.values())) + size > most):
            kept.setdefault(key, value)
        while sum(map(len, kept.values())) > most:
            del kept[next(iter(kept))]
    assert known.get([*kept]) == [*kept.values()]


def test_queries_are_one_vector_each() -> None:
    encoder = wrapped()
    assert [own.shape for own in encoder.encode_query(["a", LONG])] == [(1, 64), (1, 64)]
    assert isinstance(encoder, MultiVectorEncoder | DenseEncoder)
    assert isinstance(encoder, TokenLimit)
    assert encoder.max_tokens is None


def test_headings_stand_before_their_passages() -> None:
    options = PassageOptions(tokens=24, overlap=0, context=("title", "headings"))
    text = f"# Usage\n\n{LONG[:200]}\n\n## Options\n\n{LONG[:300]}"
    texts = read(wrapped(options=options), f"Tool{MARK}{text}")
    assert any(own.startswith("Tool Usage > Options Sentence") for own in texts)


def test_a_long_title_leaves_room_for_the_text() -> None:
    texts = read(wrapped(), f"{'very ' * 50}long{MARK}{LONG}")
    assert all(text.split().count("very") == 4 for text in texts)


def test_a_sparse_encoder_keeps_each_terms_highest_weight() -> None:
    encoder = wrapped(FakeSparseEncoder(), "sparse")
    (vector,) = encoder.encode_document([f"{MARK}{LONG}"])
    weights = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    highest: dict[int, float] = {}
    for text in read(encoder, f"{MARK}{LONG}"):
        (own,) = FakeSparseEncoder().encode_document([text])
        for index, value in zip(own.indices.tolist(), own.values.tolist(), strict=True):
            highest[index] = max(value, highest.get(index, 0.0))
    assert weights == highest


def test_token_vectors_of_all_passages_are_taken_together() -> None:
    encoder = wrapped(FakeMultiVectorEncoder(), "multivector")
    (vectors,) = encoder.encode_document([f"{MARK}{LONG}"])
    expected = np.concatenate(FakeMultiVectorEncoder().encode_document(read(encoder, f"{MARK}{LONG}")))
    np.testing.assert_allclose(vectors, expected)


def test_a_document_with_more_passages_than_a_point_holds_is_refused_with_both_numbers() -> None:
    encoder = wrapped(FakeDenseEncoder(dimension=2**16))
    with pytest.raises(DocumentError, match=r"(?s)too many passages.*got: \d\d passages.*at most 15"):
        encoder.encode_document([f"{MARK}{LONG * 3}"])


def test_options_are_part_of_the_fingerprint() -> None:
    prints = {wrapped(options=PassageOptions(tokens=own, overlap=4)).fingerprint.space for own in (16, 20)}
    assert len({*prints, FakeDenseEncoder(max_tokens=32).fingerprint.space}) == 3


def test_longer_passages_than_the_encoder_reads_are_refused() -> None:
    with pytest.raises(AdapterOptionsError, match=r"(?s)longer than the encoder reads.*got: 64.*at most 32"):
        wrapped(options=PassageOptions(tokens=64))


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ({"token": 3}, r"no option 'passages.token'"),
        ({"tokens": 2}, r"(?s)'passages.tokens'.*not usable.*got: 2"),
        ({"tokens": 20, "overlap": 15}, "at most half of tokens, here 10"),
        (7, "not usable"),
    ],
)
def test_unusable_options_are_named(passages: object, message: str) -> None:
    with pytest.raises(AdapterOptionsError, match=message):
        Registry(fakes_plugin).create("fake-dense", {"passages": passages})


def test_an_adapter_that_reads_no_documents_takes_no_passages() -> None:
    pytest.importorskip("diptych_adapters")
    with pytest.raises(AdapterOptionsError, match=r"a reranker reads no documents in passages"):
        Registry(fakes_plugin).create("fake-reranker", {"passages": {}})
    with pytest.raises(AdapterOptionsError, match=r"(?s)takes no passages.*counts? their length"):
        Registry().create("bm25", {"passages": {}})


class BySemicolons:
    """A plugin that cuts at semicolons, and writes before each passage which one it is."""

    @hookimpl
    def diptych_split_document(self, request: SplitRequest) -> list[tuple[int, int]] | None:
        found = [match.span() for match in re.finditer(r"[^;]+", request.text)]
        return found if len(found) > 1 else None

    @hookimpl
    def diptych_passage_context(self, request: ContextRequest) -> list[str]:
        return [f"part {n} of {len(request.places)}:" for n, _ in enumerate(request.places, 1)]


def test_plugins_cut_documents_and_write_context() -> None:
    encoder: Any = Registry(fakes_plugin, BySemicolons()).create("fake-dense", {"passages": {}})
    assert read(encoder, f"T{MARK}one two; three ;four") == [
        "T part 1 of 3: one two",
        "T part 2 of 3:  three",
        "T part 3 of 3: four",
    ]
    assert encoder.places([f"T{MARK}one two; three ;four"]) == [((0, 7), (8, 14), (16, 20))]


def test_plugins_are_part_of_the_fingerprint() -> None:
    spaces = [
        Registry(fakes_plugin, *own).create("fake-dense", {"passages": {}}).fingerprint.space  # type: ignore[union-attr]
        for own in ((), (BySemicolons(),))
    ]
    assert spaces[0] != spaces[1]


@pytest.mark.parametrize("places", [[], [(3, 2)], [(0, 99)], [(5, 6), (0, 2)], "no"])
def test_unusable_places_of_a_plugin_are_an_error(places: Any) -> None:
    hooks = PassageHooks(split=lambda request: places)
    with pytest.raises(HookError, match=r"(?s)unusable places.*within 12 characters"):
        PassageEncoder(FakeDenseEncoder(), "dense", OPTIONS, hooks).encode_document(["twelve chars"])


def test_context_of_another_number_of_passages_is_an_error() -> None:
    hooks = PassageHooks(context=lambda request: ["one", "two"])
    with pytest.raises(HookError, match=r"(?s)diptych_passage_context did not return one.*1 texts"):
        PassageEncoder(FakeDenseEncoder(), "dense", OPTIONS, hooks).encode_document(["twelve chars"])
