"""Long documents: what truncation loses, and what passages, LangChain and Haystack find of it, in one run.

    pip install langchain-classic langchain-text-splitters
    python tests/benchmarks/make_manual_pages.py --out "$DIPTYCH_DATA/manual-pages"
    python tests/benchmarks/compare_passages.py --corpus "$DIPTYCH_DATA/manual-pages" --cache build/passages
    python tests/benchmarks/compare_passages.py --judged cranfield cisi debian-mini

All sides encode with all-MiniLM-L6-v2 through diptych's adapter, and cut 200 of its tokens with an overlap of 40:

- truncation: a diptych collection without passages; 256 tokens of title and text are read;
- passages: the same with `passages: {tokens: 200, overlap: 40}`, with the title before each passage (the default),
  and without (`context: []`), and with BM25 beside them, whose words then also choose the passages of a hit;
- langchain: RecursiveCharacterTextSplitter, QdrantVectorStore and ParentDocumentRetriever, whose 100 best chunks
  make the documents;
- haystack: RecursiveDocumentSplitter, QdrantDocumentStore, and its retriever grouped by document; also with the
  title embedded with each chunk.

A passage *holds the answer* if the answer's first sentence is wholly within it. That is counted for the best passage
and for the three best of the document, over the queries that a way answers within ten hits. `--cache` keeps vectors for
later runs; `--documents` measures some of the collection, those that queries were made from before others.

`--judged` compares truncation and passages on test collections instead: over all judgements, and over those of the
quarter of documents that has the most tokens, while all documents are searched.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from corpora import folder_of, read_documents
from diptych import Run
from diptych.evaluate import Evaluation, Qrels, compare, evaluate, read_beir
from diptych.types import Document, Query
from machine import facts
from manual_pages.tokens import minilm_tokens
from manual_pages.ways import BASE, OPTIONS, SHOWN, WAYS, Answers, Corpus, Found, Vectors

METRICS = ["R@10", "nDCG@10"]


def drawn(corpus: Corpus, answers: Iterable[str], most: int) -> dict[str, Document]:
    """At most so many documents, those that answer queries before others, drawn with a fixed seed."""
    draw, wanted = random.Random(0), sorted(set(answers))
    others = sorted(set(corpus) - set(wanted))
    kept = {*[*draw.sample(wanted, len(wanted)), *draw.sample(others, len(others))][:most]}
    return {name: document for name, document in corpus.items() if name in kept}


def holds(query: Query, document: Document, found: Sequence[Found], *, most: int) -> bool | None:
    """Whether the best passages, at most so many, have the answer; None if the document is not found."""
    shown = next((one.shown for one in found if one.document == document.id), None)
    start, end = query.metadata["sentence"]
    return None if shown is None else any(document.text[start:end] in text for text in shown[:most])


def row(evaluation: Evaluation, base: Evaluation, held: Iterable[Sequence[bool]]) -> str:
    """A way's line of the table: measures, their differences from the base with intervals, and the shares that hold."""
    cells = [evaluation.name]
    for metric in METRICS:
        cells.append(f"{evaluation.means[metric]:.3f}")
        if evaluation is base:
            cells.append("")
        else:
            (found,) = compare([base, evaluation], base.name, metric).differences
            cells.append(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    cells += [f"{np.mean(own):.0%} of {len(own)}" if own else "" for own in held]
    return f"| {' | '.join(cells)} |"


def table(kind: str, queries: Sequence[Query], qrels: Qrels, corpus: Corpus, answers: Mapping[str, Answers]) -> None:
    """Print how the ways answer these queries."""
    judged = qrels.restricted(query.id for query in queries)
    scored = {
        way: evaluate(Run(way, {query.id: _ranking(found[query.id]) for query in queries}), judged, METRICS)
        for way, found in answers.items()
    }
    print(f"\n| {kind} ({len(queries)}) | R@10 | difference | nDCG@10 | difference | best holds it | of {SHOWN} |")
    print("|---|---|---|---|---|---|---|")
    documents = {query.id: corpus[next(iter(qrels.judgements[query.id]))] for query in queries}
    for way, evaluation in scored.items():
        held = [
            [holds(query, documents[query.id], answers[way][query.id], most=most) for query in queries]
            for most in (1, SHOWN)
        ]
        counted = [[one for one in own if one is not None] for own in held]
        print(row(evaluation, scored.get(BASE, next(iter(scored.values()))), counted))


def _ranking(found: Sequence[Found]) -> list[tuple[str, float]]:
    return [(one.document, one.score) for one in found]


def judged_rows(name: str, vectors: Vectors) -> Iterator[str]:
    """The lines of a test collection's table: all judgements, and those of its longest quarter."""
    queries, qrels = read_beir(folder_of(name))
    corpus = read_documents(folder_of(name))
    texts = [f"{document.title} {document.text}".strip() for document in corpus.values()]
    encodings = minilm_tokens().encode_batch(texts, add_special_tokens=False)
    lengths = dict(zip(corpus, map(len, encodings), strict=True))
    least = float(np.quantile([*lengths.values()], 0.75))
    runs = []
    for way in ("truncation", "passages"):
        found = WAYS[way](corpus, queries, vectors)
        runs.append(Run(way, {query.id: _ranking(found[query.id]) for query in queries}))
    counted = {
        "all": set(corpus),
        f"longest quarter ({least:.0f} tokens or more)": {own for own, length in lengths.items() if length >= least},
    }
    for label, documents in counted.items():
        some = _of(qrels, documents)
        base, other = (evaluate(run, some, ["nDCG@10"]) for run in runs)
        (found_difference,) = compare([base, other], base.name, "nDCG@10").differences
        means = " | ".join(f"{evaluation.means['nDCG@10']:.3f}" for evaluation in (base, other))
        interval = f"{found_difference.mean:+.3f} [{found_difference.low:+.3f}, {found_difference.high:+.3f}]"
        yield f"| {name}, {label} | {len(some)} | {means} | {interval} |"


def _of(qrels: Qrels, documents: Container[str]) -> Qrels:
    """The judgements of these documents, for the queries that one of them answers."""
    some = Qrels(
        {
            query: {own: grade for own, grade in found.items() if own in documents}
            for query, found in qrels.judgements.items()
        }
    )
    return some.restricted(set(some.queries) - set(some.without_relevant))


def main() -> None:
    """Print a table for each kind of query, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, help="what make_manual_pages.py has written")
    source.add_argument("--judged", nargs="+", help="test collections, by name or folder")
    parser.add_argument("--cache", type=Path, default=Path("build/passages"))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--documents", type=int, default=10**6)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    vectors = Vectors(options.cache)
    if options.judged:
        print(f"{OPTIONS}, {facts()['cpu']}\n\n| set | queries | truncation | passages | difference |")
        print("|---|---|---|---|---|")
        for name in options.judged:
            print(*judged_rows(name, vectors), sep="\n", flush=True)
        return
    queries, qrels = read_beir(options.corpus)
    named = {query.id: next(iter(qrels.judgements[query.id])) for query in queries}
    corpus = drawn(read_documents(options.corpus), named.values(), options.documents)
    queries = [query for query in queries if named[query.id] in corpus]
    answers = {}
    for way in options.ways.split(","):
        answers[way] = WAYS[way](corpus, queries, vectors)
        print(f"{way}: done", flush=True)
    print(f"\n{len(corpus):,} documents, {len(queries):,} queries, {OPTIONS}, {facts()['cpu']}")
    kinds = dict.fromkeys(str(query.metadata["kind"]) for query in queries)
    for kind in kinds:
        table(kind, [query for query in queries if query.metadata["kind"] == kind], qrels, corpus, answers)
    table("all", queries, qrels, corpus, answers)


if __name__ == "__main__":
    main()
