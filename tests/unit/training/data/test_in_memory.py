"""Candidates by an encoder in memory are those of brute force, and those of a collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diptych import Collection, Registry, SparseEncoder
from diptych.config import parse_config
from diptych.errors import ConfigError, ContractError
from diptych.protocols import Similarity
from diptych.search import Retrieve, Rrf
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder, fakes_plugin
from diptych.types import Floats
from diptych_training.data.candidate_sources import CollectionSource, EncoderSource

RANDOM = np.random.default_rng(0)
WORDS = [f"word{n}" for n in range(30)]
DOCUMENTS = {f"d{n}": " ".join(RANDOM.choice(WORDS, 8)) for n in range(90)}
QUERIES = [" ".join(RANDOM.choice(WORDS, 3, replace=False)) for _ in range(6)] + ["word1 word1 word2"]
NAMED = [[f"d{n}", f"d{n + 40}", "unknown"] for n in range(7)]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("block", [7, 4096])
def test_dense_rankings_are_those_of_brute_force(similarity: Similarity, block: int) -> None:
    encoder = FakeDenseEncoder(dimension=16, similarity=similarity, normalized=False)
    found = EncoderSource(encoder, DOCUMENTS, block=block).find(QUERIES, NAMED, 10)
    asked, there = encoder.encode_query(QUERIES), encoder.encode_document(list(DOCUMENTS.values()))
    for row, own in enumerate(found):
        scores = brute(similarity, asked[row], there)
        best = np.argsort(-scores, kind="stable")[:10]
        assert [score for _, score in own.ranking] == pytest.approx(scores[best].tolist(), abs=1e-4)
        assert {i for i, _ in own.ranking[:5]} <= {f"d{n}" for n in best}
        assert own.named == pytest.approx({f"d{n}": float(scores[n]) for n in (row, row + 40)}, abs=1e-4)


def brute(similarity: str, query: Floats, documents: Floats) -> Floats:
    if similarity == "euclidean":
        return np.array([-np.linalg.norm(own - query) for own in documents], np.float32)
    lengths = [1.0 if similarity == "dot" else np.linalg.norm(own) * np.linalg.norm(query) for own in documents]
    return np.array([own @ query / length for own, length in zip(documents, lengths, strict=True)], np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse", "uses_idf": True}}
    config = {"store": "memory:", "collection": "words", "slots": slots, "cache": {"enabled": False}}
    opened = Collection.open(parse_config(config), registry=Registry(fakes_plugin, installed=False))
    opened.populate({"id": key, "text": text} for key, text in DOCUMENTS.items())
    return opened


@pytest.mark.parametrize(
    ("slot", "encoder"), [("dense", FakeDenseEncoder()), ("lexical", FakeSparseEncoder(uses_idf=True))]
)
def test_memory_and_a_collection_find_the_same(
    collection: Collection, slot: str, encoder: FakeDenseEncoder | SparseEncoder
) -> None:
    there = CollectionSource(collection, slot=slot).find(QUERIES, NAMED, 10)
    here = EncoderSource(encoder, DOCUMENTS).find(QUERIES, NAMED, 10)
    for one, other in zip(there, here, strict=True):
        assert [score for _, score in one.ranking] == pytest.approx([s for _, s in other.ranking], abs=1e-4)
        scored = {i: score for i, score in other.named.items() if score > 0 or slot == "dense"}
        assert one.named == pytest.approx(scored, abs=1e-4)
    collection.close()


def test_stages_give_scores_to_those_among_the_ranked_alone(collection: Collection) -> None:
    stages = (Retrieve("dense", 20) + Retrieve("lexical", 20)) >> Rrf()
    (found,) = CollectionSource(collection, pipeline=stages).find(QUERIES[:1], [list(DOCUMENTS)], 5)
    assert dict(found.ranking) == found.named
    assert len(found.ranking) == 5
    with pytest.raises(ConfigError, match=r"(?s)a slot and a pipeline.*one of them"):
        CollectionSource(collection, slot="dense", pipeline=stages)
    collection.close()


def test_texts_have_their_titles_before_them(collection: Collection) -> None:
    collection.populate([{"id": "x", "title": "A title", "text": "a text"}])
    assert CollectionSource(collection).texts(["x", "gone"]) == {"x": "A title a text"}
    assert EncoderSource(FakeDenseEncoder(), {"x": "a"}).texts(["x", "gone"]) == {"x": "a"}
    collection.close()


def test_vectors_that_are_no_numbers_are_refused_and_nothing_is_found_in_nothing() -> None:
    with pytest.raises(ContractError, match=r"(?s)NaN or infinity.*row 1"):
        EncoderSource(FakeDenseEncoder(nan_word="poison"), {"a": "good", "b": "poison"})
    assert [own.ranking for own in EncoderSource(FakeDenseEncoder(), {}).find(["a"], [[]], 3)] == [[]]
    assert EncoderSource(FakeDenseEncoder(), {"a": "b"}).find([], [], 3) == []
