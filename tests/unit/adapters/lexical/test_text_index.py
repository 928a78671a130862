from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest
import qdrant_edge as edge
from qdrant_client import QdrantClient, models

from diptych.errors import AdapterOptionsError
from diptych.registry import Registry
from diptych_adapters import hooks
from diptych_adapters.lexical import QdrantTextIndex
from diptych_adapters.model_options import SPACELESS, IndexLanguage
from diptych_edge import EdgeClient
from diptych_edge.convert.config import index_schema

TEXTS = ["audio files of the network", "text file editing", "audio audio audio", "a café in the network"]


class Shard:
    """TEXTS in Qdrant Edge under one text index."""

    def __init__(self, path: Path, index: QdrantTextIndex) -> None:
        self._index = index
        config = edge.EdgeConfig(vectors={"unused": edge.EdgeVectorParams(2, edge.Distance.Cosine)})
        self._shard = edge.EdgeShard.create(str(path), config)
        self._shard.update(edge.UpdateOperation.create_field_index("_lex", index_schema(index.index_params())))
        points = [edge.Point(n, {}, {"_lex": text}) for n, text in enumerate(TEXTS)]
        self._shard.update(edge.UpdateOperation.upsert_points(points))

    def scores(self, text: str) -> dict[int, float]:
        asked = self._index.query(text)
        assert isinstance(asked.text, models.TextQueryInput)
        assert asked.text.scoring is not None
        bm25 = asked.text.scoring.bm25
        query = edge.TextQuery("_lex", asked.text.query, edge.Bm25Params(bm25.k, bm25.b))
        return {int(hit.id): hit.score for hit in self._shard.query(edge.QueryRequest(query=query, limit=10))}

    def close(self) -> None:
        self._shard.close()


@pytest.fixture
def english(tmp_path: Path) -> Iterator[Shard]:
    shard = Shard(tmp_path, QdrantTextIndex())
    yield shard
    shard.close()


def local_scores(index: QdrantTextIndex, text: str) -> dict[int, float]:
    client = QdrantClient(":memory:")
    client.create_collection("texts", vectors_config={})
    client.create_payload_index("texts", "_lex", field_schema=index.index_params())
    points = [models.PointStruct(id=n, vector={}, payload={"_lex": text}) for n, text in enumerate(TEXTS)]
    client.upsert("texts", points)
    found = client.query_points("texts", query=index.query(text), using="_lex").points
    return {int(point.id): point.score for point in found}


def scores_by_formula(text: str, k1: float, b: float) -> Mapping[int, float]:
    documents = [each.split() for each in TEXTS]
    average = sum(map(len, documents)) / len(documents)
    scores = dict.fromkeys(range(len(TEXTS)), 0.0)
    for word in set(text.split()):
        containing = sum(word in document for document in documents)
        idf = math.log(1 + (len(TEXTS) - containing + 0.5) / (containing + 0.5))
        for n, document in enumerate(documents):
            tf, norm = document.count(word), k1 * (1 - b + b * len(document) / average)
            scores[n] += idf * tf * (k1 + 1) / (tf + norm)
    return {n: score for n, score in scores.items() if score}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stopword": []}, "did you mean 'stopwords'"),
        ({"tokenizer": "bert"}, "'word', 'whitespace'"),
        ({"b": 2}, "at most 1"),
        ({"min_token_length": 5, "max_token_length": 3}, "min_token_length 5 is above max_token_length 3"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options: dict[str, object], text: str) -> None:
    with pytest.raises(AdapterOptionsError, match=text):
        Registry(hooks, installed=False).create("qdrant-text-index", options)


@pytest.mark.parametrize("language", get_args(IndexLanguage))
def test_every_language_is_one_that_edge_takes(language: IndexLanguage) -> None:
    params = index_schema(QdrantTextIndex(language=language).index_params())
    assert (params.stemmer is None) == (language in ("none", *SPACELESS))
    assert params.scoring is not None


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.5, 0.0), (2.0, 1.0)])
def test_edge_local_mode_and_the_formula_agree_on_plain_words(tmp_path: Path, k1: float, b: float) -> None:
    index = QdrantTextIndex(language="none", k1=k1, b=b)
    shard = Shard(tmp_path, index)
    expected = pytest.approx(scores_by_formula("audio network", k1, b), rel=1e-5)
    assert shard.scores("audio network") == expected
    assert local_scores(index, "audio network") == expected
    assert shard.scores("audio network audio") == expected
    shard.close()


def test_words_match_by_their_stem(english: Shard) -> None:
    assert set(english.scores("edited files")) == {0, 1}


def test_stop_words_find_nothing(english: Shard) -> None:
    assert english.scores("the of in a") == {}


def test_own_stop_words_replace_the_list(tmp_path: Path) -> None:
    shard = Shard(tmp_path, QdrantTextIndex(stopwords=["Audio"]))
    assert shard.scores("audio") == {}
    assert set(shard.scores("the")) == {0, 3}
    shard.close()


def test_folding_is_the_indexs(tmp_path: Path, english: Shard) -> None:
    shard = Shard(tmp_path / "folded", QdrantTextIndex(ascii_folding=True))
    assert set(shard.scores("cafe")) == {3}
    assert english.scores("cafe") == {}
    shard.close()


def test_the_fingerprint_is_of_the_index_alone() -> None:
    plain = QdrantTextIndex().fingerprint
    assert QdrantTextIndex(k1=2.0, b=0.1, memory="cold").fingerprint == plain
    changes: list[dict[str, object]] = [
        {"language": "german"},
        {"stopwords": []},
        {"tokenizer": "multilingual"},
        {"ascii_folding": True},
        {"min_token_length": 2},
        {"max_token_length": 20},
    ]
    spaces = {QdrantTextIndex(**options).fingerprint.space for options in changes} | {plain.space}
    assert len(spaces) == len(changes) + 1


@pytest.mark.parametrize("language", SPACELESS)
def test_texts_without_spaces_are_cut_by_the_multilingual_tokenizer_unless_another_is_named(language: str) -> None:
    assert QdrantTextIndex(language=language).options.tokenizer == "multilingual"
    assert QdrantTextIndex(language=language, tokenizer="word").options.tokenizer == "word"


def test_a_thai_word_is_found_within_its_text(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", vectors_config={})
    client.create_payload_index("c", "text", QdrantTextIndex(language="thai").index_params())
    client.upsert("c", [models.PointStruct(id=1, vector={}, payload={"text": "ฉันรักประเทศไทยมาก"})])
    client.upsert("c", [models.PointStruct(id=2, vector={}, payload={"text": "แมวกินปลา"})])
    points = client.query_points("c", query=QdrantTextIndex(language="thai").query("ประเทศ"), using="text").points
    assert [point.id for point in points] == [1]
    client.close()
