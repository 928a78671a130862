"""From all token vectors of a document to a few of them and back, with edits between."""

from __future__ import annotations

import random
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.collection.verify import mend, verify
from diptych.passages.token_pooling import ReducedEncoder, ReduceOptions
from diptych.testing import FakeMultiVectorEncoder
from diptych.types import Document
from swaps import Make, Open

PLAIN: dict[str, Any] = {"late": {"adapter": "fake-multivector", "dimension": 16}}
WITH: dict[str, Any] = {"late": {**PLAIN["late"], "reduce": {"kind": "ward", "keep": 5}}}
INNER = FakeMultiVectorEncoder(dimension=16)
REDUCED = ReducedEncoder(INNER, ReduceOptions(kind="ward", keep=5))
QUERY = "word3 word5 word11"


def corpus(size: int, seed: int = 0) -> list[Document]:
    chance = random.Random(seed)
    texts = (" ".join(f"word{chance.randrange(17)}" for _ in range(chance.randint(3, 40))) for _ in range(size))
    return [Document(str(n), f"number{n} {text}") for n, text in enumerate(texts)]


def test_reduced_documents_are_explained_and_verified_and_whole_ones_among_them_mended(
    memory: QdrantBase, config: Make, opened: Open
) -> None:
    collection = opened(memory, config(WITH))
    collection.populate(corpus(20))
    for hit, explanation in zip(collection.search(QUERY), collection.explain(QUERY), strict=True):
        (query,), (document,) = INNER.encode_query([QUERY]), REDUCED.encode_document([hit.document.text])
        assert hit.score == pytest.approx(float((query @ document.T).max(axis=1).sum()), abs=1e-4)
        assert explanation.slots["late"].score == pytest.approx(hit.score, abs=1e-5)
    assert verify(collection.handle, sample=None).passed
    whole = INNER.encode_document([hit.document.text])[0].tolist()
    vector = {collection.handle.slots["late"].vector: whole}
    memory.update_vectors("c", [models.PointVectors(id=hit.point, vector=vector)])
    report = verify(collection.handle, sample=None)
    assert {name: [*ids.values()] for name, ids in report.vectors.items()} == {"late": [hit.id]}
    assert mend(collection.handle, report) == (1, 0)
    assert verify(collection.handle, sample=None).passed
