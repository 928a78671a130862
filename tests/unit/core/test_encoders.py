"""Encoders by name: of a config, of an open collection, of what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Registry, SparseVector
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, CollectionError, ContractError, UnknownAdapter
from diptych.slots.encode import Vector
from diptych.testing import fakes_plugin
from diptych.types import Floats

CONFIG = {
    "store": "memory:",
    "collection": "things",
    "slots": {
        "mine": {"adapter": "fake-dense"},
        "words": {"adapter": "fake-sparse"},
        "late": {"adapter": "fake-multivector"},
    },
    "search": {"retrieve": {"mine": 10}, "rerank": [{"adapter": "fake-reranker", "candidates": 5}]},
    "cache": {"enabled": False},
}


def dense(vectors: Sequence[Vector]) -> Floats:
    return np.stack([vector for vector in vectors if not isinstance(vector, SparseVector)])


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin)


@pytest.fixture
def encoders(registry: Registry) -> Encoders:
    return Encoders.open(parse_config(CONFIG), registry=registry)


def test_a_slot_encodes_as_its_adapter_does(encoders: Encoders, registry: Registry) -> None:
    wanted: Any = registry.create("fake-dense")
    assert np.array_equal(
        dense(encoders["mine"].encode_document(["one", "two"])), wanted.encode_document(["one", "two"])
    )
    assert encoders["mine"].kind == "dense"
    assert encoders["mine"].dimension == wanted.dimension
    assert encoders["mine"].encode_query([]) == []


def test_each_kind_gives_its_own_vectors(encoders: Encoders) -> None:
    (sparse,), (late,) = encoders["words"].encode_query(["one two"]), encoders["late"].encode_query(["one two"])
    assert isinstance(sparse, SparseVector)
    assert isinstance(late, np.ndarray)
    assert late.ndim == 2


def test_adapters_have_names_too(encoders: Encoders) -> None:
    alone = Encoders.open(registry=encoders._registry)
    assert alone.names == []
    found, wanted = alone["fake-dense"].encode_query(["x"]), encoders["mine"].encode_query(["x"])
    assert np.array_equal(dense(found), dense(wanted))
    assert "fake-dense" in alone
    assert "mine" not in alone


def test_an_encoder_of_another_kind_than_wanted_is_refused(encoders: Encoders) -> None:
    assert encoders["words"].required("sparse").kind == "sparse"
    assert encoders.kinds == {"mine": "dense", "words": "sparse", "late": "multivector"}
    assert encoders.of_kind("dense", "sparse") == ["mine", "words"]
    with pytest.raises(AdapterOptionsError, match=r"(?s)'words' makes no dense vectors.*got: sparse"):
        encoders["words"].required("dense")


def test_documents_whose_vectors_are_no_numbers_are_an_error(encoders: Encoders) -> None:
    broken = encoders.with_options("fake-dense", {"nan_word": "poison"})
    with pytest.raises(ContractError, match=r"(?s)NaN or infinity.*for 'some poison'"):
        broken.encode_document(["fine", "some poison"])


def test_an_open_collection_gives_what_serves_it(registry: Registry) -> None:
    with Collection.open(parse_config(CONFIG), registry=registry) as things:
        assert things.encoders.names == ["mine", "words", "late"]
        things.populate([{"id": "a", "text": "one two three"}])
        slot = things.handle.slot("mine")
        assert things.encoders.slot("mine") is slot


def test_a_reranker_that_serves_the_pipeline_is_not_made_twice(registry: Registry) -> None:
    with Collection.open(parse_config(CONFIG), registry=registry) as things:
        assert things.encoders.reranker("fake-reranker") is things.handle.view.reranker("fake-reranker", {})


def test_a_slot_with_a_first_stage_says_how_few_numbers_are_of_use(registry: Registry) -> None:
    slots = {**CONFIG["slots"], "mine": {"adapter": "fake-dense", "storage": {"first_stage": {"dimension": 16}}}}  # type: ignore[dict-item]
    encoders = Encoders.open(parse_config({**CONFIG, "slots": slots}), registry=registry)
    assert encoders["mine"].shortest == 16
    assert encoders["late"].shortest is None


def test_unknown_names_and_what_makes_no_vectors_are_said(encoders: Encoders) -> None:
    names = r"(?s)no encoder is called 'mime'.*mine, words, late.*did you mean 'mine'"
    with pytest.raises(UnknownAdapter, match=names):
        encoders["mime"]
    with pytest.raises(AdapterOptionsError, match=r"(?s)does not make vectors.*'fake-reranker', a reranker"):
        encoders["fake-reranker"]


def test_bm25_encodes_by_a_given_average_length_until_a_corpus_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("diptych_adapters")
    slots = {"lexical": {"adapter": "bm25", "average_length": 4}}
    config = parse_config({**CONFIG, "slots": slots, "search": {"retrieve": {"lexical": 10}}})
    (vector,) = Encoders.open(config)["lexical"].encode_document(["four words exactly here"])
    assert isinstance(vector, SparseVector)
    with Collection.open(config) as things:
        things.populate([{"id": "a", "text": "one small word"}, {"id": "b", "text": "big elephants walk slowly today"}])
        average = things.handle.slot("lexical").encoder.average_length
        assert average == 4.0  # 3 and 5 words that count
        things.handle.slot("lexical").encoder.calibrate({"documents": 1.0, "tokens": 9.0})
        assert things.handle.slot("lexical").encoder.average_length == 9.0


def test_an_adapter_is_made_once_for_each_set_of_options(encoders: Encoders) -> None:
    small = encoders.with_options("fake-dense", {"dimension": 8})
    assert (small.dimension, encoders.with_options("fake-dense", {}).dimension) == (8, 64)
    again = encoders.with_options("fake-dense", {"dimension": 8})
    assert again._slot().encoder is small._slot().encoder
    with pytest.raises(AdapterOptionsError, match=r"(?s)'mine' is a slot.*got: seed.*name its adapter, 'fake-dense'"):
        encoders.with_options("mine", {"seed": 1})
    assert encoders.with_options("mine", {}).dimension == 64
    with pytest.raises(AdapterOptionsError, match=r"(?s)does not make vectors.*a reranker"):
        encoders.with_options("fake-reranker", {})


def test_a_slot_tells_which_vector_it_fills(encoders: Encoders) -> None:
    assert [encoders.vector(name) for name in encoders.names] == ["mine.1", "words.1", "late.1"]
    with pytest.raises(CollectionError, match=r"(?s)no slot 'fake-dense'.*mine, words, late"):
        encoders.vector("fake-dense")


def test_a_mapping_is_a_config(registry: Registry) -> None:
    assert Encoders.open(CONFIG, registry=registry).names == ["mine", "words", "late"]
    with Collection.open(CONFIG, registry=registry) as things:
        things.populate([{"id": "a", "text": "one"}])
        assert [hit.id for hit in things.search("one")] == ["a"]
