"""What exploring by a reranker's own scores finds, over a lexical and over a dense first stage.

    DIPTYCH_DATA=... python tests/benchmarks/compare_exploring.py [--data debian-mini] [--sample 50] [--json out.json]

The reranker is a black box of late interaction: the mean over a query's tokens of the best cosine with a document's
token, by the token vectors of all-MiniLM-L6-v2. Its anchors are 400 titles of the collection, or the first words of
documents without one. Everything goes through diptych as a user would run it: populate scores the anchors against every
document, `tune_rerank` scores every document for each query, to know the reranker's own list, then searches with each
budget.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

import diptych
from corpora import folder_of
from diptych import AdapterSpec, Collection, Document, Registry
from diptych.evaluate import Qrels, read_queries
from diptych.plugins.anchor_scores import choose_anchors, write_anchors
from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from rerank_budgets import RerankReport, tune_rerank

MINILM = "all-MiniLM-L6-v2"
BUDGETS = (50, 100, 200)


class LateInteraction:
    """Mean over the query's tokens of the best cosine with a document's token."""

    max_length, independent = 256, True

    def __init__(self) -> None:
        self._encoder = cast("Any", Registry.default().create("token-vectors", {"model": MINILM}))
        space: str = self._encoder.fingerprint.space
        self.fingerprint = Fingerprint(f"{space} mean-max:1")
        self._known: dict[str, Floats] = {}

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]`; the queries of a document go through one product."""
        places: dict[str, list[int]] = {}
        for place, (_, document) in enumerate(pairs):
            places.setdefault(document, []).append(place)
        scores = np.empty(len(pairs), np.float32)
        for document, of_document in places.items():
            queries = [self._vectors(pairs[place][0]) for place in of_document]
            best = (np.concatenate(queries) @ self._vectors(document).T).max(axis=1)
            lengths = np.array([len(query) for query in queries])
            scores[of_document] = np.add.reduceat(best, np.cumsum(lengths) - lengths) / lengths
        return scores

    def _vectors(self, text: str) -> Floats:
        if text not in self._known:
            (self._known[text],) = self._encoder.encode_document([text])
        return self._known[text]


@cache
def shared() -> LateInteraction:
    """One reranker for the stage and the anchors, so that tokens are encoded once."""
    return LateInteraction()


@diptych.hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """The reranker as a plugin would bring it."""
    return [AdapterSpec(name="late", kind="reranker", factory=f"{__name__}:shared", summary="late interaction")]


def documents_of(folder: Path) -> list[Document]:
    """The documents that have a text."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [Document.from_mapping(row) for row in rows if row["text"].strip()]


def measure(folder: Path, texts: Path, sample: int | None) -> RerankReport:
    """Fill a collection and tune its reranker."""
    slots = {
        "lexical": {"adapter": "bm25", "language": "english"},
        "dense": {"adapter": "sentence-transformers", "model": MINILM},
        "scores": {"adapter": "late", "anchors": {"texts": str(texts)}},
    }
    explore = {"anchors": "scores", "rounds": 4, "budget": 100}
    search = {"retrieve": {"lexical": 100}, "rerank": [{"adapter": "late", "explore": explore}]}
    config = {"store": f"edge:{texts.parent / 'store'}", "collection": folder.name, "slots": slots, "search": search}
    registry = Registry(sys.modules[__name__])
    queries, qrels = read_queries(folder / "queries.jsonl.gz"), Qrels.read(folder / "qrels/test.tsv")
    with Collection.open(config, registry=registry) as collection:
        begin = time.perf_counter()
        report = collection.populate(documents_of(folder))
        print(f"populate: {report.new} documents, {report.set_aside} rejected, {time.perf_counter() - begin:.0f} s")
        return tune_rerank(collection.handle, queries, qrels, budgets=BUDGETS, sample=sample)


def show(report: RerankReport) -> None:
    """The rows, and what exploring adds."""
    print(f"{report.queries} queries, {report.documents} documents, {report.pairs:,} pairs scored")
    for row in report.rows:
        ndcg = "" if row.ndcg is None else f"{row.ndcg:.3f}"
        recall = " ".join(f"{value:.3f}" for value in row.recall.values())
        print(f"{row.first:10} {'explore' if row.explore else 'plain':8} {row.calls:6.1f} nDCG {ndcg} recall {recall}")
    for gain in report.gains:
        print(gain)


def main() -> None:
    """Print and keep what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="cranfield")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--anchors", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = folder_of(options.data)
    with tempfile.TemporaryDirectory() as temporary:
        texts = Path(temporary) / "anchors.txt"
        write_anchors(
            texts, choose_anchors(((own.title, own.text) for own in documents_of(folder)), options.anchors, seed=0)
        )
        report = measure(folder, texts, options.sample)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(report), indent=1))


if __name__ == "__main__":
    main()
