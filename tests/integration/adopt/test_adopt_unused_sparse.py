"""Adoption says which slot a sparse vector without one needs."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import QdrantClient, models

import diptych_adapters.hooks
from diptych import Registry
from diptych.adopt import adopt
from diptych.config.models import Config
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych_adapters.bm25 import Bm25

TEXTS = [f"green apples grow on tree number {n} {'slowly ' * (n % 5)}" for n in range(30)]
DENSE = {"adapter": "fake-dense", "dimension": 24}


@pytest.mark.parametrize(("factor", "said"), [(1.0, "bm25 made it"), (0.5, "none of bm25, ngrams made it")])
def test_a_sparse_vector_without_a_slot_gets_the_lines_to_add(factor: float, said: str) -> None:
    dense, bm25 = FakeDenseEncoder(dimension=24), Bm25()
    bm25.calibrate(bm25.measure(TEXTS))
    client = QdrantClient(":memory:")
    cosine = models.VectorParams(size=24, distance=models.Distance.COSINE)
    idf = models.SparseVectorParams(modifier=models.Modifier.IDF)
    client.create_collection("c", {"": cosine}, {"langchain-sparse": idf})
    rows = zip(TEXTS, dense.encode_document(TEXTS), bm25.encode_document(TEXTS), strict=True)
    points = []
    for n, (text, vector, words) in enumerate(rows):
        sparse = models.SparseVector(indices=words.indices.tolist(), values=(words.values * factor).tolist())
        vectors = {"": vector.tolist(), "langchain-sparse": sparse}
        points.append(models.PointStruct(id=n, vector=vectors, payload={"page_content": text, "metadata": {}}))
    client.upsert("c", points)
    registry = Registry(fakes_plugin, diptych_adapters.hooks, installed=False)
    lines: dict[str, Any] = {"collection": "c", "slots": {"dense": DENSE}, "cache": {"enabled": False}}
    report = adopt(client, "c", Config.model_validate(lines), registry=registry)
    (warning,) = [line for line in report.warnings if "add beneath slots" in line]
    assert warning.startswith(f"'langchain-sparse' (sparse): {said}")
    assert "diptych adopt --again --slot sparse=langchain-sparse" in warning
    if factor == 1.0:
        lines["slots"] = {"dense": DENSE, "sparse": {"adapter": "bm25"}}
        stated = {"sparse": "langchain-sparse"}
        again = adopt(client, "c", Config.model_validate(lines), vectors=stated, registry=registry, again=True)
        assert [slot.vector for slot in again.slots] == ["", "langchain-sparse"]
    client.close()
