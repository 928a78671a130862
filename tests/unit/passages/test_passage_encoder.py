"""`PassageEncoder`: encodes each passage as the wrapped encoder encodes that text, in one vector per passage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diptych.errors import AdapterOptionsError, DocumentError
from diptych.passages import MARK, PassageEncoder, PassageOptions, with_passages
from diptych.protocols import DenseEncoder, MultiVectorEncoder, TokenLimit
from diptych.registry import Registry
from diptych.testing import FakeDenseEncoder, FakeMultiVectorEncoder, FakeSparseEncoder, fakes_plugin

OPTIONS = PassageOptions(tokens=16, overlap=4)
LONG = " ".join(f"Sentence {n} holds word{n} and more." for n in range(30))


def wrapped(inner: Any = None, kind: Any = "dense", options: PassageOptions = OPTIONS) -> PassageEncoder:
    return with_passages(inner or FakeDenseEncoder(max_tokens=32), kind, options, where="slot 'dense'")


def test_each_vector_is_that_of_its_passage_with_the_title_before_it() -> None:
    inner = FakeDenseEncoder(max_tokens=32)
    encoder = wrapped(inner)
    (vectors,) = encoder.encode_document([f"A title{MARK}{LONG}"])
    (parts,) = encoder.parts([f"A title{MARK}{LONG}"])
    assert len(parts) > 8
    assert all(part.read == f"A title {LONG[part.start : part.end]}" for part in parts)
    assert all(len(part.read.split()) <= OPTIONS.tokens for part in parts)
    np.testing.assert_allclose(vectors, inner.encode_document([part.read for part in parts]), atol=1e-6)


def test_a_document_that_fits_is_encoded_as_without_passages() -> None:
    inner = FakeDenseEncoder(max_tokens=32)
    (vectors,) = wrapped(inner).encode_document([f"A title{MARK}A short text."])
    np.testing.assert_allclose(vectors, inner.encode_document(["A title A short text."]), atol=1e-6)


def test_one_by_one_or_in_a_batch_the_vectors_are_the_same() -> None:
    encoder, inputs = wrapped(), [f"T{MARK}{LONG}", "short", f"{MARK}{LONG[:300]}", ""]
    batch = encoder.encode_document(inputs)
    for alone, among in zip((encoder.encode_document([own])[0] for own in inputs), batch, strict=True):
        np.testing.assert_array_equal(alone, among)


def test_queries_are_one_vector_each() -> None:
    encoder = wrapped()
    assert [own.shape for own in encoder.encode_query(["a", LONG])] == [(1, 64), (1, 64)]
    assert isinstance(encoder, MultiVectorEncoder | DenseEncoder)
    assert isinstance(encoder, TokenLimit)
    assert encoder.max_tokens is None


def test_headings_stand_before_their_passages() -> None:
    options = PassageOptions(tokens=24, overlap=0, context=("title", "headings"))
    text = f"# Usage\n\n{LONG[:200]}\n\n## Options\n\n{LONG[:300]}"
    (parts,) = wrapped(options=options).parts([f"Tool{MARK}{text}"])
    assert any(part.read.startswith("Tool Usage > Options Sentence") for part in parts)


def test_a_long_title_leaves_room_for_the_text() -> None:
    (parts,) = wrapped().parts([f"{'very ' * 50}long{MARK}{LONG}"])
    assert all(part.read.split().count("very") == 4 for part in parts)


def test_a_sparse_encoder_keeps_each_terms_highest_weight() -> None:
    encoder = wrapped(FakeSparseEncoder(), "sparse")
    (vector,) = encoder.encode_document([f"{MARK}{LONG}"])
    weights = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    highest: dict[int, float] = {}
    for part in encoder.parts([f"{MARK}{LONG}"])[0]:
        (own,) = FakeSparseEncoder().encode_document([part.read])
        for index, value in zip(own.indices.tolist(), own.values.tolist(), strict=True):
            highest[index] = max(value, highest.get(index, 0.0))
    assert weights == highest


def test_token_vectors_of_all_passages_are_taken_together() -> None:
    encoder = wrapped(FakeMultiVectorEncoder(), "multivector")
    (vectors,) = encoder.encode_document([f"{MARK}{LONG}"])
    parts = encoder.parts([f"{MARK}{LONG}"])[0]
    np.testing.assert_allclose(
        vectors, np.concatenate(FakeMultiVectorEncoder().encode_document([p.read for p in parts]))
    )


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


@pytest.mark.parametrize("adapter", ["fake-dense", "fake-sparse"])
def test_a_registry_makes_encoders_with_passages(adapter: str) -> None:
    encoder = Registry(fakes_plugin).create(adapter, {"passages": {"tokens": 32, "overlap": 0}})
    assert isinstance(encoder, PassageEncoder)


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
    with pytest.raises(AdapterOptionsError, match=r"a reranker reads no documents in passages"):
        Registry(fakes_plugin).create("fake-reranker", {"passages": {}})
    with pytest.raises(AdapterOptionsError, match=r"(?s)takes no passages.*counts? their length"):
        Registry().create("bm25", {"passages": {}})
