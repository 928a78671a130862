"""The lexical adapters' scores on both embedded stores against the formula, worked out here word by word."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych_adapters.lexical import Analyzer, Bm25
from diptych_adapters.model_options import Bm25Options
from diptych_edge import EdgeClient

TEXTS = [
    "convert audio files between formats",
    "an editor of audio and text",
    "plays network streams, network radio and network television",
    "files files files",
    "manage the converted formats of audio files in a network of editors",
]
QUERIES = ["converting audio files", "network network editors", "the of", "unheard words", "files files audio"]


@pytest.fixture(params=["edge", "memory"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantBase]:
    made: QdrantBase = EdgeClient(tmp_path) if request.param == "edge" else QdrantClient(":memory:")
    yield made
    made.close()


def scores_by_formula(query: str, *, k1: float, b: float) -> dict[int, float]:
    analyzer = Analyzer(Bm25Options())
    documents, asked = ([_stems(analyzer, text) for text in texts] for texts in (TEXTS, [query]))
    average = sum(map(len, documents)) / len(documents)
    scores: defaultdict[int, float] = defaultdict(float)
    for stem, times in Counter(asked[0]).items():
        holders = sum(stem in document for document in documents)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for n, document in enumerate(documents):
            if not (tf := document.count(stem)):
                continue
            scores[n] += times * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(document) / average))
    return dict(scores)


def _stems(analyzer: Analyzer, text: str) -> list[str]:
    return [stem for word in analyzer.words(text) if (stem := analyzer.stem(word))]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.7, 0.2), (0.0, 0.5), (0.9, 1.0)])
def test_bm25_scores_are_those_of_the_formula(client: QdrantBase, query: str, k1: float, b: float) -> None:
    encoder = Bm25(k1=k1, b=b)
    encoder.calibrate(encoder.measure(TEXTS))
    sparse = {"lexical": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    client.create_collection("texts", vectors_config={}, sparse_vectors_config=sparse)
    vectors = [
        models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist())
        for v in encoder.encode_document(TEXTS) + encoder.encode_query([query])
    ]
    points = [models.PointStruct(id=n, vector={"lexical": vectors[n]}) for n in range(len(TEXTS))]
    client.upsert("texts", points)
    found = client.query_points("texts", query=vectors[-1], using="lexical", limit=10).points
    expected = scores_by_formula(query, k1=k1, b=b)
    assert {int(point.id): point.score for point in found} == pytest.approx(expected, rel=1e-5)
