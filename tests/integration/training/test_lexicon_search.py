"""A lexicon's folder in a collection: Qdrant's scores are its dot products, and pruning keeps what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych import Collection, Document, Query
from diptych.config import parse_config
from diptych.types import SparseVector
from diptych_adapters.sparse_encoders import SpladeEncoder
from diptych_training.lexicon import lexicon
from tiny_lexicon import WORDS, tiny_masked_model

RANDOM = np.random.default_rng(0)
DOCUMENTS = [Document(f"d{n}", " ".join(RANDOM.choice(WORDS, 12))) for n in range(40)]
QUERIES = [" ".join(RANDOM.choice(WORDS, 3)) for _ in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    model = lexicon(tiny_masked_model(tmp_path / "bert"))
    model.save_pretrained(str(tmp_path / "lexicon"))
    return str(tmp_path / "lexicon")


def dense(vectors: list[SparseVector]) -> NDArray[np.float64]:
    """Rows over the lexicon."""
    rows = np.zeros((len(vectors), 65))
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.indices] = vector.values
    return rows


def test_a_sparse_score_of_qdrant_is_the_dot_product(folder: str, tmp_path: Path) -> None:
    adapter = {"adapter": "sentence-transformers-sparse", "trained_as": "masked-lm"}
    slots = {"lexical": {**adapter, "model": folder, "device": "cpu"}}
    search = {"retrieve": {"lexical": 40}, "limit": 40}
    config = parse_config({"store": f"edge:{tmp_path / 'store'}", "collection": "c", "slots": slots, "search": search})
    encoder = SpladeEncoder.of(model=folder, device="cpu")
    texts = [str(document.text) for document in DOCUMENTS]
    wanted = dense(encoder.encode_query(QUERIES)) @ dense(encoder.encode_document(texts)).T
    with Collection.open(config) as collection:
        collection.populate(DOCUMENTS, report_path=tmp_path / "report.jsonl")
        found = collection.search_batch([Query(text, id=str(n)) for n, text in enumerate(QUERIES)], limit=40)
    for row, hits in zip(wanted, found, strict=True):
        assert len(hits) == (row > 0).sum() > 5
        for hit in hits:
            assert hit.score == pytest.approx(row[int(hit.document.id[1:])], rel=1e-5, abs=1e-5)


def test_pruning_is_monotone_in_the_number_of_terms(folder: str) -> None:
    """More terms hold those of fewer, and no score falls."""
    texts = [str(document.text) for document in DOCUMENTS[:10]]
    queries = dense(SpladeEncoder.of(model=folder, device="cpu").encode_query(QUERIES))
    before: Any = np.zeros((10, 65))
    for kept in (1, 2, 4, 8, 16, 64):
        pruned = dense(SpladeEncoder.of(model=folder, device="cpu", max_active_dims=kept).encode_document(texts))
        assert ((pruned > 0).sum(1) <= kept).all()
        assert np.allclose(pruned[before > 0], before[before > 0], atol=1e-6)
        assert (queries @ pruned.T >= queries @ before.T - 1e-6).all()
        before = pruned
    assert (before > 0).sum(1).min() > 4
