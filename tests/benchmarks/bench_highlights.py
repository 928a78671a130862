"""What `highlight` adds to a query, in CPU time: the same queries with and without it, in turn.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_highlights.py

all-MiniLM-L6-v2 with passages of 200 tokens beside BM25, over the beginnings of ten of the committed manual pages, so
that a query returns ten hits. CPU time of the whole process is counted, since it depends little on what else runs; of
one thread, since several wait for each other in loops.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from pathlib import Path

from diptych import Collection, Document

PAGES = Path(__file__).parent.parent / "data" / "manual_pages"
SLOTS = {
    "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", "passages": {"tokens": 200}},
    "lexical": {"adapter": "bm25", "language": "english"},
}
BEGINNING, HITS, QUERIES = 4000, 10, 10


def documents() -> list[Document]:
    """The beginnings of ten pages."""
    with gzip.open(PAGES / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    long = [row for row in rows if len(row["text"]) >= BEGINNING]
    return [Document(row["_id"], row["text"][:BEGINNING], row["title"]) for row in long[:HITS]]


def queries() -> list[str]:
    """The first queries of the same collection."""
    lines = (PAGES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:QUERIES]]


def cpu(collection: Collection, query: str, *, highlight: bool) -> float:
    """Milliseconds of CPU time of one search."""
    begin = time.process_time()
    assert len(collection.search(query, limit=HITS, highlight=highlight)) == HITS
    return 1000 * (time.process_time() - begin)


def main() -> None:
    """Print the medians and their ratio."""
    config = {"store": "memory:", "collection": "pages", "slots": SLOTS, "search": {"remember": 0}}
    with Collection.open(config) as collection:
        collection.populate(documents())
        for query in queries()[:2]:
            cpu(collection, query, highlight=True)  # the first calls load and compile
        pairs = [
            (cpu(collection, query, highlight=False), cpu(collection, query, highlight=True)) for query in queries()
        ]
    without, highlighted = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{without:.0f} ms of CPU time without, {highlighted:.0f} ms with highlights, {highlighted / without:.1f} times"
    )


if __name__ == "__main__":
    main()
