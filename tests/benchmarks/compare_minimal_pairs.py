"""Which properties encoders tell apart: packages beside twins with another number, another name, or a denial.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_minimal_pairs.py [--each 100]

Queries are the one-line descriptions of debian-synopsis by the authors of the packages (its test split), documents the
longer descriptions. A number or name is changed if both state it. Every slot scores each document and its twin
directly; the hybrid ranks them among all documents and twins. Intervals are over the pairs, 95 %.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from corpora import folder_of, read_documents
from diptych import Collection, Run
from diptych.evaluate import read_beir
from diptych_experimental.minimal_pairs import MinimalPair, minimal_pairs, preferences

MINILM = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", "precision": "bfloat16", "device": "cpu"}
SLOTS: dict[str, dict[str, Any]] = {
    "minilm": MINILM,
    "bm25": {"adapter": "bm25", "language": "english"},
    "ngrams": {"adapter": "bm25", "terms": "ngrams"},
}
HYBRID = {"minilm": 100, "bm25": 100}
NAMES = (
    ("perl", "python", "ruby", "java", "php", "haskell", "ocaml", "lua", "rust", "javascript", "lisp"),
    ("gtk", "qt", "wxwidgets", "tk"),
    ("gnome", "kde", "xfce", "lxde"),
    ("client", "server"),
    ("mysql", "postgresql", "sqlite", "mongodb"),
    ("audio", "video", "image"),
    ("english", "french", "german", "italian", "russian", "spanish"),
)


def drawn(each: int) -> tuple[list[MinimalPair], dict[str, Any], dict[str, str]]:
    """At most so many pairs of each property, the documents by id, and the queries' texts."""
    folder = folder_of("debian-synopsis")
    documents, (queries, qrels) = read_documents(folder), read_beir(folder)
    pairs = minimal_pairs(queries, qrels, documents, names=NAMES)
    random.Random(0).shuffle(pairs)
    counts: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        counts[pair.changed] += 1
        if counts[pair.changed] <= each:
            kept.append(pair)
    print(f"{len(queries):,} queries give {dict(counts)}", flush=True)
    return kept, documents, {query.id: query.text for query in queries}


def runs_of(collection: Collection, pairs: Sequence[MinimalPair], texts: Mapping[str, str]) -> list[Run]:
    """Each slot's own scores of documents and twins, and the hybrid's ranking."""
    both: dict[str, list[str]] = {}
    for pair in pairs:
        both.setdefault(pair.query, []).extend([pair.document, pair.twin.id])
    asked, ids = [texts[own] for own in both], [[*dict.fromkeys(own)] for own in both.values()]
    runs = []
    for slot in SLOTS:
        scores = zip(both, collection.scores(asked, ids, slot=slot), strict=True)
        runs.append(Run(slot, {own: sorted(found.items(), key=lambda pair: -pair[1]) for own, found in scores}))
    hits = zip(both, collection.search_batch(asked, limit=100), strict=True)
    return [*runs, Run("hybrid", {own: [(hit.id, hit.score) for hit in found] for own, found in hits})]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="pairs of each property at most")
    pairs, documents, texts = drawn(parser.parse_args().each)
    config = {"collection": "pairs", "slots": SLOTS, "search": {"retrieve": HYBRID}}
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.open({"store": f"edge:{folder}", **config}) as collection,
    ):
        collection.populate(documents[own] for own in sorted({pair.document for pair in pairs}))
        collection.populate(pair.twin for pair in pairs)
        runs = runs_of(collection, pairs, texts)
    for run in runs:
        for changed, own in preferences(run, pairs).items():
            low, high = own.interval or (float("nan"),) * 2
            told = f"{own.pairs} pairs, {own.missing} missing"
            print(f"{run.name} | {changed} | {own.share:.3f} [{low:.3f}, {high:.3f}] | {told}", flush=True)


if __name__ == "__main__":
    main()
