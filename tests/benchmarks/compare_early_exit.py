"""What a reranker's early exit saves and costs: the share of pairs scored and nDCG@10 beside scoring all candidates.

    python tests/benchmarks/compare_early_exit.py "$DIPTYCH_DATA/cranfield" examples/debian

The reranker is real but untrained: MaxSim of the token vectors of all-MiniLM-L6-v2 (mean over the query's tokens of the
best token of the document), over the best candidates of BM25 (English). For each block and patience: the share of pairs
that are scored, nDCG@10, the difference to scoring all, and how many queries get the same ten hits in the same order.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from diptych.collection.collection import Collection
from diptych.config import parse_config
from diptych.evaluate import evaluate, read_beir
from diptych.evaluate.qrels import Qrels
from diptych.populate.sources.open_source import open_source
from diptych.protocols import Pair
from diptych.search import EarlyExit, Pipeline, Rerank, Retrieve
from diptych.types import Floats, Hit, Query, Run
from diptych_adapters.token_vectors import TokenVectorEncoder

BLOCKS, PATIENCES, LIMIT = (5, 10), (1, 2, 3), 10


class MaxSim:
    """Late interaction as a reranker. Texts and pairs are worked out once; `scored` counts all pairs asked for."""

    max_length: int | None = None
    independent = True

    def __init__(self) -> None:
        self._encoder = TokenVectorEncoder.of(model="all-MiniLM-L6-v2", device="cpu")
        self._queries: dict[str, Floats] = {}
        self._documents: dict[str, Floats] = {}
        self._known: dict[Pair, float] = {}
        self.scored = 0

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Mean over the query's tokens of the best cosine, float32 `[n]`."""
        self.scored += len(pairs)
        if new := [pair for pair in pairs if pair not in self._known]:
            self._encode(new)
            self._known |= {(query, document): self._score(query, document) for query, document in new}
        return np.array([self._known[pair] for pair in pairs], np.float32)

    def _encode(self, pairs: Sequence[Pair]) -> None:
        queries, documents = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
        self._queries |= dict(zip(queries, self._encoder.encode_query(queries), strict=True))
        new = [text for text in documents if text not in self._documents]
        self._documents |= dict(zip(new, self._encoder.encode_document(new), strict=True)) if new else {}

    def _score(self, query: str, document: str) -> float:
        return float((self._queries[query] @ self._documents[document].T).max(axis=1).mean())


def found(collection: Collection, queries: Sequence[Query], pipeline: Pipeline) -> dict[str, list[Hit]]:
    hits = collection.search_batch(queries, pipeline=pipeline, limit=LIMIT)
    return {query.id: own for query, own in zip(queries, hits, strict=True)}


def ndcg(hits: Mapping[str, Sequence[Hit]], qrels: Qrels) -> float:
    rankings = {query: [(hit.id, hit.score) for hit in own] for query, own in hits.items()}
    return evaluate(Run("run", rankings), qrels, ["nDCG@10"]).means["nDCG@10"]


def compare(folder: Path, candidates: int) -> None:
    config = {"collection": "c", "slots": {"lexical": {"adapter": "bm25", "language": "english"}}}
    queries, qrels = read_beir(folder)
    with (
        tempfile.TemporaryDirectory() as place,
        Collection.open(parse_config({**config, "store": f"edge:{place}"})) as collection,
    ):
        collection.populate(open_source(folder), report_path=Path(place) / "aside.jsonl")
        tabulate(collection, queries, qrels, candidates, folder.name)


def tabulate(collection: Collection, queries: Sequence[Query], qrels: Qrels, candidates: int, name: str) -> None:
    first, reranker = Retrieve("lexical", candidates), MaxSim()
    print(f"\n{name}: {len(queries)} queries, {candidates} candidates, limit {LIMIT}")
    print(f"without reranker: nDCG@10 {ndcg(found(collection, queries, Pipeline((first,))), qrels):.4f}")
    whole = found(collection, queries, first >> Rerank(reranker, candidates))
    pairs, best = reranker.scored, ndcg(whole, qrels)
    print(f"all scored: {pairs:,} pairs, nDCG@10 {best:.4f}\n", flush=True)
    print("| block | patience | pairs scored | nDCG@10 | difference | same ten hits |\n|---|---|---|---|---|---|")
    for block, patience in product(BLOCKS, PATIENCES):
        reranker.scored = 0
        hits = found(collection, queries, first >> Rerank(reranker, candidates, early_exit=EarlyExit(block, patience)))
        same = sum([h.id for h in hits[q]] == [h.id for h in whole[q]] for q in whole)
        now = ndcg(hits, qrels)
        shares = f"{reranker.scored / pairs:.0%} | {now:.4f} | {now - best:+.4f} | {same / len(whole):.0%}"
        print(f"| {block} | {patience} | {shares} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", default=[Path(__file__).parents[2] / "examples" / "debian"])
    parser.add_argument("--candidates", type=int, default=100)
    given = parser.parse_args()
    for one in given.folders:
        compare(one, given.candidates)
