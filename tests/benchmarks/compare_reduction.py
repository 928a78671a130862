"""What fewer token vectors of each document save and cost: bytes and nDCG@10 beside all of them.

    python tests/benchmarks/compare_reduction.py [examples/debian] [--keep 64 32 16] [--queries 8 6 4]

The pipeline is the demo's: 50 candidates of BM25 and all-MiniLM-L6-v2 fused by RRF are ordered by late interaction of
MiniLM's token vectors. Vectors are encoded once and compared in numpy, which gives what Qdrant's MaxSim gives. Beside
`reduce`, which is `ward`, other ways to keep as many vectors:

- `prototypes`: the means around tokens that lie far from one another, each chosen farthest from those before it;
- `distinct`: the tokens that are least like the mean of all, a saliency that needs nothing but the vectors;
- tokens that are attended to most in the last layer, of all heads and tokens: the saliency of DUET-VLM;
- tokens of the highest IDF in the collection, the first ones, and tokens drawn at random.

A table after them has their means and paired differences from `ward` that keeps as many, with 95 % bootstrap intervals.

Queries that keep fewer vectors are compared with all vectors of the documents. A schedule orders all candidates by few
vectors, the better half by twice as many, and the better half of these by all: of queries, or of documents. *Products*
are the dot products of a query's and a document's vector that a query takes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from arms import cell
from corpora import DEBIAN, read_documents
from diptych import Collection, Document, Query, Registry
from diptych.evaluate import Evaluation, Qrels, compare, evaluate, read_queries
from diptych.passages.token_pooling import reduced
from diptych.search import Retrieve, Rrf
from diptych.types import Floats, Run
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet

MINILM, CANDIDATES = "all-MiniLM-L6-v2", 50
Vectors: TypeAlias = Mapping[str, Floats]
Weights: TypeAlias = Mapping[str, Floats]  # of each document's tokens


def candidates_of(documents: Mapping[str, Document], queries: Sequence[Query]) -> dict[str, list[str]]:
    """The ids that BM25 and MiniLM, fused, find for each query."""
    slots = {
        "dense": {"adapter": "sentence-transformers", "model": MINILM},
        "lexical": {"adapter": "bm25", "language": "english"},
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.open({"store": f"edge:{folder}", "collection": "c", "slots": slots}) as collection,
    ):
        collection.populate(documents.values())
        pipeline = Retrieve("dense", 100) + Retrieve("lexical", 100) >> Rrf(k=60)
        hits = collection.search_batch(queries, pipeline=pipeline, limit=CANDIDATES)
    return {query.id: [hit.id for hit in own] for query, own in zip(queries, hits, strict=True)}


def idf_of_tokens(encoder: Any, texts: Mapping[str, str], vectors: Vectors) -> Weights:
    """The IDF of each token that has a vector; that of [CLS] and [SEP], which all documents have, is 0."""
    spans = dict(zip(texts, encoder.token_spans([*texts.values()]), strict=True))
    words = {
        own: ["", *(text[a:b].lower() for a, b in spans[own])][: len(vectors[own]) - 1] for own, text in texts.items()
    }
    found = Counter(word for own in words.values() for word in {*own})
    return {
        own: np.log(np.array([len(texts) / found[word] if word else 1.0 for word in [*tokens, ""]], np.float32))
        for own, tokens in words.items()
    }


def attention_of_tokens(texts: Mapping[str, str], vectors: Vectors) -> Weights:
    """The attention that each token with a vector gets in the last layer, the mean of all heads and tokens."""
    from transformers import AutoModel, AutoTokenizer

    path, found = str(resolve(MINILM).path), dict[str, Floats]()
    with quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        model = AutoModel.from_pretrained(path, attn_implementation="eager", use_safetensors=True).eval()
    for own, text in texts.items():
        tokens = tokenizer(text, truncation=True, max_length=len(vectors[own]), return_tensors="pt")
        with torch.inference_mode():
            attention = model(**tokens, output_attentions=True).attentions[-1][0]
        found[own] = attention.mean(dim=(0, 1)).numpy()
        assert found[own].shape == vectors[own].shape[:1]
    return found


def variants(vectors: Vectors, weights: Mapping[str, Weights], keep: int) -> Iterator[tuple[str, Vectors]]:
    """The documents' vectors by each way to keep so many."""
    yield "ward", reduced_all(vectors, keep)
    yield "prototypes", {own: prototypes(rows, keep) for own, rows in vectors.items()}
    chance = np.random.default_rng(0)
    ways: dict[str, Callable[[str, int], Any]] = {
        "distinct": lambda own, _: np.argsort(vectors[own] @ vectors[own].mean(axis=0), kind="stable"),
        "random": lambda _, count: chance.permutation(count),
        "first": lambda _, count: np.arange(count),
        **{name: partial(_heaviest, own) for name, own in weights.items()},
    }
    for name, order in ways.items():
        yield name, {own: rows[np.sort(order(own, len(rows))[:keep])] for own, rows in vectors.items()}


def _heaviest(weights: Weights, own: str, _: int) -> Any:
    return np.argsort(-weights[own], kind="stable")


def reduced_all(vectors: Vectors, keep: int) -> Vectors:
    """What `reduce` leaves of them."""
    return {own: reduced(rows, keep, "cosine") for own, rows in vectors.items()}


def prototypes(rows: Floats, keep: int) -> Floats:
    """The means of the rows that are nearest to each of `keep` rows far from one another."""
    if len(rows) <= keep:
        return rows
    chosen, nearest = [0], rows @ rows[0]
    for _ in range(keep - 1):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    owners = (rows @ rows[chosen].T).argmax(axis=1)
    means = np.stack([rows[owners == place].mean(axis=0) for place in np.unique(owners)])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def ranked(name: str, candidates: Mapping[str, list[str]], queries: Vectors, documents: Vectors) -> Run:
    """The candidates by MaxSim."""
    hits = {}
    for query, ids in candidates.items():
        scores = [(own, float((queries[query] @ documents[own].T).max(axis=1).sum())) for own in ids]
        hits[query] = sorted(scores, key=lambda pair: -pair[1])
    return Run(name, hits)


def scheduled(
    name: str, candidates: Mapping[str, list[str]], stages: Sequence[tuple[Vectors, Vectors]]
) -> tuple[Run, float]:
    """All candidates by the first stage's vectors, the better half by the next's; and the products of a query."""
    hits, rest, products = dict[str, list[tuple[str, float]]](), dict(candidates), 0
    for place, (queries, documents) in enumerate(stages):
        products += sum(len(queries[query]) * len(documents[own]) for query, ids in rest.items() for own in ids)
        for query, found in ranked(name, rest, queries, documents).rankings.items():
            # Whatever a later stage has ordered stands above the others.
            ordered = [(own, score + 1000 * place) for own, score in found]
            hits[query] = [*ordered, *hits.get(query, [])[len(ordered) :]]
        rest = {query: [own for own, _ in found[: (len(rest[query]) + 1) // 2]] for query, found in hits.items()}
    return Run(name, hits), products / len(candidates)


def show(name: str, documents: Vectors, evaluation: Evaluation, whole: Evaluation) -> None:
    """A line: vectors and bytes of all documents, the measure, and the difference with its interval."""
    counts = [len(rows) for rows in documents.values()]
    size = sum(rows.size * 4 for rows in documents.values())
    line = f"{name:16} {np.mean(counts):6.1f} vectors {size / 1e6:7.1f} MB  nDCG@10 {evaluation.means['nDCG@10']:.3f}"
    if evaluation is not whole:
        (difference,) = compare([whole, evaluation], whole.name, "nDCG@10").differences
        line += f"  {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    print(line, flush=True)


def table(evaluations: Mapping[str, Mapping[int, Evaluation]]) -> str:
    """Ways to keep tokens by how many they keep, in Markdown, each beside `ward`."""
    keeps = [*evaluations["ward"]]
    lines = [f"| | {' | '.join(map(str, keeps))} |", "|---" * (len(keeps) + 1) + "|"]
    ward = {keep: _of_queries(evaluation) for keep, evaluation in evaluations["ward"].items()}
    for name, by_keep in evaluations.items():
        cells = (cell(_of_queries(own), None if name == "ward" else ward[keep]) for keep, own in by_keep.items())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _of_queries(evaluation: Evaluation) -> Any:
    return np.array([*evaluation.values("nDCG@10").values()])


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=DEBIAN)
    parser.add_argument("--keep", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--queries", type=int, nargs="*", default=[8, 6, 4])
    options = parser.parse_args()
    documents = read_documents(options.folder)
    queries, qrels = read_queries(options.folder / "queries.jsonl.gz"), Qrels.read(options.folder / "qrels/test.tsv")
    candidates = candidates_of(documents, queries)
    encoder: Any = Registry.default().create(
        "sentence-transformers-multivector", {"trained_as": "dense", "model": MINILM}
    )
    texts = {own: " ".join(filter(None, (document.title, document.text))) for own, document in documents.items()}
    whole = dict(zip(texts, encoder.encode_document([*texts.values()]), strict=True))
    asked = dict(zip(candidates, encoder.encode_query([query.text for query in queries]), strict=True))

    def measured(name: str, query_vectors: Vectors, vectors: Vectors) -> Evaluation:
        return evaluate(ranked(name, candidates, query_vectors, vectors), qrels, ("nDCG@10",))

    base = measured("all", asked, whole)
    show("all", whole, base, base)
    weights = {"top IDF": idf_of_tokens(encoder, texts, whole), "attention": attention_of_tokens(texts, whole)}
    ways = dict[str, dict[int, Evaluation]]()
    for keep in options.keep:
        for name, vectors in variants(whole, weights, keep):
            ways.setdefault(name, {})[keep] = measured(f"{name} {keep}", asked, vectors)
            show(f"{name} {keep}", vectors, ways[name][keep], base)
    print(table(ways), flush=True)
    print(f"queries: {np.mean([len(rows) for rows in asked.values()]):.1f} vectors")
    for keep in options.queries:
        show(f"query {keep}", whole, measured(f"query {keep}", reduced_all(asked, keep), whole), base)
    fewer = [{keep: reduced_all(side, keep) for keep in keeps} for side, keeps in ((asked, (4, 8)), (whole, (16, 32)))]
    schedules: dict[str, list[tuple[Vectors, Vectors]]] = {
        "no schedule": [(asked, whole)],
        "queries 4, 8, all": [(fewer[0][4], whole), (fewer[0][8], whole), (asked, whole)],
        "documents 16, 32, all": [(asked, fewer[1][16]), (asked, fewer[1][32]), (asked, whole)],
    }
    for name, stages in schedules.items():
        run, products = scheduled(name, candidates, stages)
        print(f"{products:8,.0f} products", end=" ")
        show(name, whole, evaluate(run, qrels, ("nDCG@10",)), base)


if __name__ == "__main__":
    main()
