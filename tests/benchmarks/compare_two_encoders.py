"""Two dense encoders of one collection: fused by score, in a cascade, and as one vector, beside each alone.

    python tests/benchmarks/compare_two_encoders.py "$DIPTYCH_DATA" debian-mini cranfield scifact --cache build/two

The encoders are all-MiniLM-L6-v2 and paraphrase-MiniLM-L3-v2, 384 numbers each. Their vectors are made once, kept in
the cache and compared exactly. Fusions are those of diptych's host, over 100 candidates of each encoder. One vector is
both joined, the second one times the root of a weight: its dot product is the weighted sum of both cosines, for every
document. *chosen* takes the weight of .1, .3, 1 and 3 that is best on the other half of the queries. The
last rows put BM25 in the second encoder's place.

Prints Markdown: nDCG@10, and its difference from the better encoder alone with a paired 95% bootstrap interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from diptych.config.stages import Dbsf, Linear, Rrf
from diptych.evaluate import Evaluation, Qrels, compare, evaluate
from diptych.search.fusion import fuse
from diptych.types import Run
from fusion_sets import Judged, Vectors, load

FIRST, SECOND, DEPTH, GAMMAS = "minilm", "paraphrase", 100, (0.1, 0.3, 1.0, 3.0)
Scores: TypeAlias = Any  # float64 [queries, documents]


def scores_of(vectors: Vectors, judged: Judged, encoder: str) -> Scores:
    """The cosine of each query with each document."""
    texts = {"query": [*judged.queries.values()], "document": [*judged.documents.values()]}
    query, document = (vectors.dense(encoder, judged, side, own, "whole") for side, own in texts.items())
    return query.astype(np.float64) @ document.T


def best(judged: Judged, scores: Scores, depth: int = DEPTH) -> list[list[tuple[str, float]]]:
    """The first `depth` documents of each query."""
    ids = [*judged.documents]
    places = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return [[(ids[n], float(row[n])) for n in found] for row, found in zip(scores, places, strict=True)]


def cascade(judged: Judged, fast: Scores, strong: Scores, depth: int, *, added: bool = False) -> Any:
    """The candidates of one encoder by the other's score, or by the sum of both."""
    cut = -np.sort(-fast, axis=1)[:, depth - 1 : depth]
    return best(judged, np.where(fast >= cut, strong + (fast if added else 0.0), -np.inf), depth)


def ways(judged: Judged, first: Scores, second: Scores, lexical: Scores) -> Iterator[tuple[str, Any]]:
    """Names and rankings."""
    lists = {FIRST: best(judged, first), SECOND: best(judged, second), "bm25": best(judged, lexical)}
    yield from lists.items()
    for name, fusion in (("DBSF", Dbsf()), ("RRF", Rrf()), ("z-scores, second .1", Linear("zscore", {SECOND: 0.1}))):
        pairs = zip(lists[FIRST], lists[SECOND], strict=True)
        yield f"fused: {name}", [fuse(fusion, {FIRST: one, SECOND: two})[:DEPTH] for one, two in pairs]
    for gamma in GAMMAS:
        yield f"one vector, {gamma:g}", best(judged, first + gamma * second)
    for depth in (20, 100):
        yield f"cascade: second {depth}, then first", cascade(judged, second, first, depth)
        yield f"cascade: first {depth}, then second", cascade(judged, first, second, depth)
        yield f"cascade: second {depth}, then both", cascade(judged, second, first, depth, added=True)
    pairs = zip(lists[FIRST], lists["bm25"], strict=True)
    yield "DBSF with BM25", [fuse(Dbsf(), {FIRST: one, "bm25": two})[:DEPTH] for one, two in pairs]


def chosen(values: Mapping[str, dict[str, float]], queries: list[str]) -> dict[str, float]:
    """By query, the value of the weight that is best on the half of the queries that it is not in."""
    names, halves = [f"one vector, {gamma:g}" for gamma in GAMMAS], (queries[::2], queries[1::2])
    found: dict[str, float] = {}
    for own, other in (halves, halves[::-1]):
        name = max(names, key=lambda name: sum(values[name][query] for query in other))
        found |= {query: values[name][query] for query in own}
    return found


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--cache", type=Path, default=Path("build/two"))
    options = parser.parse_args()
    vectors = Vectors(options.cache)
    for name in options.sets:
        judged = load(options.root, name)
        first, second = (scores_of(vectors, judged, encoder) for encoder in (FIRST, SECOND))
        lexical = vectors.sparse("bm25", judged, {"whole": [*judged.queries.values()]})["whole"].toarray()
        qrels = Qrels(judged.grades)
        found: dict[str, Evaluation] = {}
        for way, rankings in ways(judged, first, second, lexical):
            run = Run(way, dict(zip(judged.queries, rankings, strict=True)))
            found[way] = evaluate(run, qrels, ("nDCG@10",))
        weight = chosen({way: dict(own.per_query["nDCG@10"]) for way, own in found.items()}, [*judged.queries])
        found["one vector, chosen"] = Evaluation("one vector, chosen", {"nDCG@10": weight})
        show(judged, found)


def show(judged: Judged, found: dict[str, Evaluation]) -> None:
    """The table of one set."""
    base = max((found[FIRST], found[SECOND]), key=lambda own: own.means["nDCG@10"])
    print(f"\n{judged.name}: {len(judged.documents)} documents, {len(judged.queries)} queries\n")
    for way, evaluation in found.items():
        (difference,) = compare([base, evaluation], base.name, "nDCG@10").differences if way != base.name else (None,)
        line = f"| {way} | {evaluation.means['nDCG@10']:.3f} |"
        print(line if difference is None else f"{line} {gap(difference.mean, difference.low, difference.high)} |")


def gap(mean: float, low: float, high: float) -> str:
    """A difference with its interval."""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
