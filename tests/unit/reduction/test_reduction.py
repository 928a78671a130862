"""`reduce`: fewer vectors for each document of a multi-vector slot."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from diptych import Registry
from diptych.config import parse_config
from diptych.errors import AdapterOptionsError, MissingExtra
from diptych.passages import PassageOptions, with_passages
from diptych.passages.token_pooling import ReducedEncoder, ReduceOptions, reduced
from diptych.protocols import Fingerprint, MultiVectorEncoder, TokenLimit
from diptych.testing import FakeMultiVectorEncoder, fakes_plugin
from diptych.types import Floats

LONG = " ".join(f"word{n}" for n in range(50))


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def drawn(tokens: int, seed: int = 0, dimension: int = 8) -> Floats:
    return unit(np.random.default_rng(seed).normal(size=(tokens, dimension)).astype(np.float32))


def topics(*sizes: int) -> Floats:
    """Unit vectors around as many axes, so many around each."""
    noise = np.random.default_rng(1).normal(scale=0.05, size=(sum(sizes), 16))
    return unit((np.repeat(np.eye(16)[: len(sizes)], sizes, axis=0) + noise).astype(np.float32))


def options(keep: int = 4) -> ReduceOptions:
    return ReduceOptions(keep=keep)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 40), keep=st.integers(1, 12), seed=st.integers(0, 9), doubled=st.booleans())
def test_no_more_than_keep_finite_vectors_of_length_one_are_left(
    tokens: int, keep: int, seed: int, doubled: bool
) -> None:
    vectors = drawn(tokens, seed)
    vectors = np.concatenate([vectors, vectors]) if doubled else vectors
    result = reduced(vectors, keep, "cosine")
    assert result.dtype == np.float32
    assert result.shape[1] == 8
    assert 1 <= len(result) <= keep or result is vectors
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, atol=1e-5)


def test_a_document_with_no_more_vectors_than_keep_is_left_alone() -> None:
    vectors = drawn(4)
    assert reduced(vectors, 4, "cosine") is vectors
    assert len(reduced(vectors, 3, "cosine")) == 3


def test_groups_of_like_vectors_become_their_means() -> None:
    vectors = topics(9, 2, 5)
    means = [vectors[:9].mean(axis=0), vectors[9:11].mean(axis=0), vectors[11:].mean(axis=0)]
    np.testing.assert_allclose(reduced(vectors, 3, "cosine"), unit(np.stack(means)), atol=1e-6)
    np.testing.assert_allclose(reduced(vectors, 3, "dot"), np.stack(means), atol=1e-6)


def test_the_first_and_the_last_token_are_in_the_first_and_the_last_vector() -> None:
    vectors = np.concatenate([topics(3), topics(0, 4), topics(0, 0, 2), topics(0, 3)])
    expected = [vectors[:3], vectors[7:9], vectors[[3, 4, 5, 6, 9, 10, 11]]]
    means = np.stack([own.mean(axis=0) for own in expected])
    np.testing.assert_allclose(reduced(vectors, 3, "dot"), means, atol=1e-6)
    around = np.concatenate([vectors[:9], topics(2)])
    assert np.argmax(reduced(around, 3, "dot"), axis=1).tolist() == [0, 1, 2]


def test_wards_clusters_are_those_of_scikit_learn() -> None:
    for seed in range(20):
        vectors = drawn(30, seed)
        labels = AgglomerativeClustering(n_clusters=7, linkage="ward").fit_predict(vectors)
        clusters = [vectors[labels == label].mean(axis=0) for label in dict.fromkeys(labels)]
        likeness = reduced(vectors, 7, "cosine") @ unit(np.stack(clusters)).T
        assert sorted(likeness.argmax(axis=1)) == [*range(7)]
        np.testing.assert_allclose(likeness.max(axis=1), 1, atol=1e-5)


def test_lengths_do_not_count_where_vectors_are_compared_by_cosine() -> None:
    vectors, lengths = drawn(20), np.linspace(1, 3, 20, dtype=np.float32)[:, None]
    one, other = (reduced(own, 4, "cosine") for own in (vectors, vectors * lengths))
    np.testing.assert_allclose(one, unit(other), atol=1e-5)


@pytest.mark.parametrize(
    "broken", [drawn(9) * np.nan, drawn(9).astype(float), np.zeros(9, np.float32), [[1.0, 0.0]] * 9, None]
)
def test_what_is_no_usable_multivector_is_left_to_the_checks_of_encoders(broken: Any) -> None:
    assert reduced(broken, 4, "cosine") is broken


def test_documents_are_reduced_and_queries_stay_whole() -> None:
    inner = FakeMultiVectorEncoder(max_tokens=99)
    encoder: Any = ReducedEncoder(inner, options(keep=6))
    assert all(isinstance(encoder, contract) for contract in (MultiVectorEncoder, TokenLimit))
    assert encoder.token_spans([LONG])[0].tolist() == inner.token_spans([LONG])[0].tolist()
    ((query,), (whole,)) = encoder.encode_query([LONG]), inner.encode_query([LONG])
    np.testing.assert_array_equal(query, whole)
    batch, alone = encoder.encode_document([LONG, "a b", LONG[::-1]]), encoder.encode_document([LONG])
    assert [len(own) for own in batch] == [6, 2, 6]
    np.testing.assert_array_equal(batch[0], alone[0])


def test_the_number_is_part_of_the_fingerprint_and_queries_are_not_the_documents_business() -> None:
    inner = FakeMultiVectorEncoder()
    prints = [ReducedEncoder(inner, options(keep)).fingerprint for keep in (4, 5)]
    assert len({own.space for own in (*prints, inner.fingerprint)}) == 3
    assert {own.numerics for own in prints} == {inner.fingerprint.numerics}
    inner.fingerprint = Fingerprint("space", "", "documents")
    own = ReducedEncoder(inner, options()).fingerprint
    assert own.space.startswith("space reduce:")
    assert own.documents == own.space.replace("space", "documents")


def test_a_remembered_check_counts_for_the_same_reduction_alone() -> None:
    inner: Any = FakeMultiVectorEncoder()
    assert ReducedEncoder(inner, options()).identity == ""
    inner.identity = "files 1"
    assert len({ReducedEncoder(inner, options(keep=keep)).identity for keep in (4, 5)} | {"files 1"}) == 3


def test_a_registry_makes_reduced_encoders_of_every_plugin() -> None:
    encoder: Any = Registry(fakes_plugin).create("fake-multivector", {"reduce": {"keep": 3}})
    assert [len(own) for own in encoder.encode_document([LONG, "a b"])] == [3, 2]


def test_each_passage_keeps_that_many() -> None:
    inner = ReducedEncoder(FakeMultiVectorEncoder(), options(keep=3))
    expected = with_passages(inner, "multivector", PassageOptions(tokens=16, overlap=0), where="")
    made: Any = Registry(fakes_plugin).create(
        "fake-multivector", {"reduce": {"keep": 3}, "passages": {"tokens": 16, "overlap": 0}}
    )
    passages = [LONG[begin:end].split() for begin, end in expected.places([LONG])[0]]
    assert len(passages) > 3
    assert [len(own) for own in made.encode_document([LONG])] == [sum(min(3, len(words)) for words in passages)]
    assert made.fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    ("adapter", "reduce", "message"),
    [
        ("fake-multivector", {"keep": 0}, r"(?s)'reduce.keep'.*not usable.*got: 0.*at least 1"),
        ("fake-multivector", {"keep": 2.5}, r"(?s)'reduce.keep'.*not usable.*got: 2.5"),
        ("fake-multivector", {"keep": True}, r"(?s)'reduce.keep'.*not usable.*got: True"),
        ("fake-multivector", {"kind": "wards"}, r"(?s)'reduce.kind'.*got: 'wards'.*'ward'"),
        ("fake-multivector", {"kept": 3}, r"(?s)no option 'reduce.kept'.*expected: keep, kind"),
        ("fake-multivector", 32, "not usable"),
        ("fake-dense", {}, r"(?s)only a multi-vector encoder.*got: 'fake-dense', kind dense.*leave `reduce` out"),
        ("fake-reranker", {}, r"(?s)only a multi-vector encoder.*kind reranker"),
    ],
)
def test_unusable_options_are_named(adapter: str, reduce: object, message: str) -> None:
    with pytest.raises(AdapterOptionsError, match=message):
        Registry(fakes_plugin).create(adapter, {"reduce": reduce})


@pytest.mark.parametrize(
    ("more", "most"),
    [
        ({"max_tokens": 40}, "40, the tokens of a document that the encoder reads"),
        ({"passages": {"tokens": 20, "overlap": 0}}, "20, the tokens of a passage"),
        ({"max_tokens": 40, "passages": {"tokens": 20, "overlap": 0}}, "20, the tokens of a passage"),
    ],
)
def test_more_vectors_than_there_can_be_tokens_are_refused(more: dict[str, Any], most: str) -> None:
    registry, number = Registry(fakes_plugin), int(most.partition(",")[0])
    message = rf"(?s)reduce.keep reduces nothing.*where: .*late.*got: {number + 1}.*at most {most}.*do: lower keep"
    with pytest.raises(AdapterOptionsError, match=message):
        registry.create("fake-multivector", {**more, "reduce": {"keep": number + 1}}, where="slots.late")
    assert registry.create("fake-multivector", {**more, "reduce": {"keep": number}}, where="slots.late")


def test_an_encoder_that_reads_all_keeps_any_number() -> None:
    assert Registry(fakes_plugin).create("fake-multivector", {"reduce": {"keep": 10_000}})


def test_a_config_names_the_line_of_an_unusable_option_and_survives_a_dump() -> None:
    slot = {"adapter": "fake-multivector", "reduce": {"keep": 8}}
    config = parse_config({"collection": "c", "slots": {"late": slot}})
    assert config.slots["late"].reduce == ReduceOptions(keep=8)
    assert config.slots["late"].options == {"reduce": {"keep": 8}}
    assert parse_config(config.model_dump(mode="json")) == config


def test_without_scipy_the_registry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtra, match=r"(?s)needs scipy.*pip install 'diptych\[reduce\]'"):
        Registry(fakes_plugin).create("fake-multivector", {"reduce": {}})
