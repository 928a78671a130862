"""Compare pipelines on judged queries, with a paired test. Needs `pip install 'diptych[eval]'`; no model is loaded.

Two lexical slots on the Debian packages: BM25 as sparse vectors, and Qdrant's own text index.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from diptych import Collection, Run
from diptych.config import parse_config
from diptych.evaluate import Qrels, compare, evaluate, read_queries, table
from diptych.populate import open_source
from diptych.search import Pipeline, Retrieve, Rrf

DATA = Path(__file__).parent / "debian"
SLOTS = {
    "bm25": {"adapter": "bm25", "language": "english"},
    "index": {"adapter": "qdrant-text-index", "language": "english"},
}
PIPELINES: dict[str, Pipeline | Retrieve] = {
    "bm25": Retrieve("bm25", 100),
    "text index": Retrieve("index", 100),
    "both": Retrieve("bm25", 100) + Retrieve("index", 100) >> Rrf(k=60),
}


def main() -> None:
    queries, qrels = read_queries(DATA / "queries.jsonl.gz"), Qrels.read(DATA / "qrels" / "test.tsv")
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config({"store": f"edge:{folder}", "collection": "debian", "slots": SLOTS})
        with Collection.open(config) as packages:
            packages.populate(open_source(DATA / "corpus.jsonl.gz"))
            runs = {n: packages.search_batch(queries, pipeline=p, limit=10) for n, p in PIPELINES.items()}
    evaluations = [evaluate(Run.from_hits(n, queries, hits), qrels, ("nDCG@10", "MRR@10")) for n, hits in runs.items()]
    print(table(evaluations, comparisons=[compare(evaluations, "bm25", "nDCG@10")]))


if __name__ == "__main__":
    main()
