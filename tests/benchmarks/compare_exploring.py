"""What exploring by a reranker's own scores finds, over a lexical and over a dense first stage.

    DIPTYCH_DATA=... python tests/benchmarks/compare_exploring.py [--data debian-mini] [--sample 50]

The reranker is a black box of late interaction: the mean over a query's tokens of the best cosine with a document's
token, by the token vectors of all-MiniLM-L6-v2. Its anchors are 400 titles of the collection, or the first words of
documents without one. It scores every document for each query, to know its own list; then each first stage is reranked
with each budget, with and without exploring. The table has the share of its own top 10 and top 50 that was scored and
nDCG@10, and what exploring adds, with 95 % paired bootstrap intervals.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from corpora import folder_of
from diptych import Collection, Document, Registry
from diptych.evaluate import Qrels, evaluate, read_queries
from diptych.evaluate.scoring import bootstrap_means
from diptych.protocols import Pair
from diptych.search import Pipeline, Retrieve
from diptych.types import Floats, Hit, Query, Run
from diptych_experimental.anncur import AnchorScores, choose_anchors, explore

MINILM = "all-MiniLM-L6-v2"
BUDGETS, DEPTHS = (50, 100, 200), (10, 50)
SLOTS = {
    "lexical": {"adapter": "bm25", "language": "english"},
    "dense": {"adapter": "sentence-transformers", "model": MINILM},
}


class LateInteraction:
    """Mean over the query's tokens of the best cosine with a document's token; each pair is scored once."""

    max_length: int | None = 256
    independent = True

    def __init__(self) -> None:
        self._encoder = cast(
            "Any",
            Registry.default().create("sentence-transformers-multivector", {"trained_as": "dense", "model": MINILM}),
        )
        self._known: dict[str, Floats] = {}
        self._scores: dict[Pair, float] = {}

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]`; the queries of a document go through one product."""
        places: dict[str, list[str]] = {}
        for query, document in pairs:
            if (query, document) not in self._scores:
                places.setdefault(document, []).append(query)
        for document, asked in places.items():
            queries = [self._vectors(query) for query in asked]
            best = (np.concatenate(queries) @ self._vectors(document).T).max(axis=1)
            lengths = np.array([len(query) for query in queries])
            means = np.add.reduceat(best, np.cumsum(lengths) - lengths) / lengths
            self._scores |= {(query, document): float(mean) for query, mean in zip(asked, means, strict=True)}
        return np.array([self._scores[pair] for pair in pairs], np.float32)

    def _vectors(self, text: str) -> Floats:
        if text not in self._known:
            (self._known[text],) = self._encoder.encode_document([text])
        return self._known[text]


def documents_of(folder: Path) -> list[Document]:
    """The documents that have a text."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [Document.from_mapping(row) for row in rows if row["text"].strip()]


def plain(collection: Collection, query: str, reranker: LateInteraction, first: Pipeline, budget: int) -> list[Hit]:
    """The candidates in the order of the reranker's scores."""
    hits = collection.search(query, pipeline=first, limit=budget)
    scores = reranker.predict([(query, hit.document.text) for hit in hits])
    return [Hit(hits[place].document, float(scores[place])) for place in np.argsort(-scores, kind="stable")]


def recalls(found: Sequence[Sequence[Hit]], own: Sequence[Floats], depth: int) -> Any:
    """The share of the reranker's own best `depth` that each query's hits hold; of equal scores any one counts."""
    return np.array(
        [
            min(1.0, sum(hit.score >= best[depth - 1] for hit in hits) / depth)
            for hits, best in zip(found, own, strict=True)
        ]
    )


def gain(differences: Any) -> str:
    """The mean with its interval."""
    low, high = np.quantile(bootstrap_means(differences, samples=10_000, seed=0), [0.025, 0.975])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="cranfield")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--anchors", type=int, default=400)
    options = parser.parse_args()
    folder = folder_of(options.data)
    documents, qrels = documents_of(folder), Qrels.read(folder / "qrels/test.tsv")
    queries = [query for query in read_queries(folder / "queries.jsonl.gz") if qrels.relevant(query.id)]
    if options.sample and options.sample < len(queries):
        places = np.random.default_rng(0).permutation(len(queries))[: options.sample]
        queries = [queries[place] for place in sorted(places.tolist())]
    reranker = LateInteraction()
    scores = AnchorScores.of(reranker, documents, choose_anchors(documents, options.anchors))
    texts = [document.text for document in documents]
    own = [np.sort(reranker.predict([(query.text, text) for text in texts]))[::-1] for query in queries]
    with Collection.open({"store": "memory:", "collection": "c", "slots": SLOTS}) as collection:
        collection.populate(documents)
        for slot in SLOTS:
            for budget in BUDGETS:
                show(collection, queries, qrels, reranker, scores, own, slot, budget)


def show(
    collection: Collection,
    queries: Sequence[Query],
    qrels: Qrels,
    reranker: LateInteraction,
    scores: AnchorScores,
    own: Sequence[Floats],
    slot: str,
    budget: int,
) -> None:
    """One first stage with one budget."""
    first, texts = Pipeline((Retrieve(slot, budget),)), [query.text for query in queries]
    trials = {
        "reranking alone": [plain(collection, text, reranker, first, budget) for text in texts],
        "exploring": [
            [*explore(collection, text, reranker, scores, first=first, budget=budget).hits] for text in texts
        ],
    }
    restricted, values = qrels.restricted(query.id for query in queries), {}
    for name, found in trials.items():
        run = Run.from_hits(name, list(queries), found)
        per_query = evaluate(run, restricted, metrics=["nDCG@10"]).per_query["nDCG@10"]
        values[name] = np.array([per_query[query.id] for query in queries]), recalls(found, own, DEPTHS[1])
        shares = [f"{recalls(found, own, depth).mean():.3f}" for depth in DEPTHS]
        print(slot, budget, name, *shares, f"{values[name][0].mean():.3f}", sep=" | ")
    (ndcg, recall), (more_ndcg, more_recall) = values.values()
    print(slot, budget, "exploring adds", gain(more_recall - recall), gain(more_ndcg - ndcg), sep=" | ")


if __name__ == "__main__":
    main()
