"""Adoption says which slot a sparse vector without one needs."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from ruamel.yaml import YAML

import diptych_adapters.hooks
from diptych import Collection, Registry
from diptych.adopt import adopt
from diptych.config.models import Config
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych_adapters.lexical import Bm25

TEXTS = [f"green apples grow on tree number {n} {'slowly ' * (n % 5)}" for n in range(30)]
DENSE = {"adapter": "fake-dense", "dimension": 24}


FASTEMBED = {"adapter": "bm25", "compatible_with": "fastembed"}


@pytest.mark.parametrize(
    ("options", "factor", "said"),
    [
        (FASTEMBED, 1.0, "Made by adapter: bm25, compatible_with: fastembed"),
        ({"adapter": "bm25"}, 1.0, "Made by adapter: bm25"),
        ({"adapter": "bm25"}, 0.5, "Not made by adapter: bm25, compatible_with: fastembed; adapter: bm25; "),
    ],
)
def test_a_sparse_vector_without_a_slot_gets_the_lines_that_make_it_hybrid(
    options: dict[str, Any], factor: float, said: str
) -> None:
    dense, bm25 = (
        FakeDenseEncoder(dimension=24),
        Bm25(**{name: value for name, value in options.items() if name != "adapter"}),
    )
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
    (warning,) = report.warnings
    assert warning.startswith("'langchain-sparse' (sparse) belongs to no slot")
    assert f". {said}" in warning
    assert "diptych adopt --again --slot langchain-sparse=langchain-sparse" in warning
    if factor == 1.0:
        written = YAML(typ="safe").load(warning.split("`")[1])  # the line as a user copies it
        lines["slots"] = {"dense": DENSE, **written}
        assert written == {"langchain-sparse": options}
        again = adopt(client, "c", Config.model_validate(lines), registry=registry, again=True)
        assert [slot.vector for slot in again.slots] == ["", "langchain-sparse"]
        (found,) = Collection.open(client, "c", registry=registry).explain("tree number 17", limit=1)
        assert (found.document.text, set(found.slots)) == (TEXTS[17], {"dense", "langchain-sparse"})
    client.close()
