from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych.errors import AdapterOptionsError
from diptych.registry import Registry
from diptych_adapters import hooks
from diptych_adapters.lexical import QdrantTextIndex
from diptych_adapters.model_options import SPACELESS, IndexLanguage
from diptych_edge import EdgeClient
from diptych_edge.convert.config import index_schema

TEXTS = ["audio files of the network", "text file editing", "audio audio audio", "a café in the network"]


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeClient]:
    client = EdgeClient(tmp_path)
    yield client
    client.close()


def scores(client: QdrantBase, index: QdrantTextIndex, *queries: str, texts: Sequence[str] = TEXTS) -> Any:
    """The scores of each query's hits by the place of their text, of one query alone."""
    name = f"texts{len(client.get_collections().collections)}"
    unused = {"unused": models.SparseVectorParams()}  # Edge has no collections without vectors
    client.create_collection(name, vectors_config={}, sparse_vectors_config=unused)
    client.create_payload_index(name, "_lex", field_schema=index.index_params())
    client.upsert(name, [models.PointStruct(id=n, vector={}, payload={"_lex": own}) for n, own in enumerate(texts)])
    found = [client.query_points(name, query=index.query(query), using="_lex").points for query in queries]
    by_query = [{int(point.id): point.score for point in points} for points in found]
    return by_query if len(queries) > 1 else by_query[0]


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
def test_edge_local_mode_and_the_formula_agree_on_plain_words(edge: EdgeClient, k1: float, b: float) -> None:
    index = QdrantTextIndex(language="none", k1=k1, b=b)
    expected = pytest.approx(scores_by_formula("audio network", k1, b), rel=1e-5)
    assert scores(edge, index, "audio network", "audio network audio") == [expected, expected]
    assert scores(QdrantClient(":memory:"), index, "audio network") == expected


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {"edited files": {0, 1}, "the of in a": set(), "cafe": set()}),
        ({"stopwords": ["Audio"]}, {"audio": set(), "the": {0, 3}}),
        ({"ascii_folding": True}, {"cafe": {3}}),
    ],
)
def test_stems_stop_words_and_folding_are_the_indexs(
    edge: EdgeClient, options: dict[str, Any], found: dict[str, set[int]]
) -> None:
    index = QdrantTextIndex(**options)
    assert {query: set(scores(edge, index, query)) for query in found} == found


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


def test_a_thai_word_is_found_within_its_text(edge: EdgeClient) -> None:
    texts = ["ฉันรักประเทศไทยมาก", "แมวกินปลา"]
    assert set(scores(edge, QdrantTextIndex(language="thai"), "ประเทศ", texts=texts)) == {0}
