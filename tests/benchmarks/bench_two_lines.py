"""How much faster two changed lines make LangChain, LlamaIndex and Haystack, their own Qdrant stores unchanged.

    python tests/benchmarks/bench_two_lines.py --documents 200 --queries 30 --rounds 3

Both sides are the framework's quick start on qdrant-client's local mode, in one process with the same threads, by
turns: once with its own sentence-transformers embedder, once with diptych's (OpenVINO; bfloat16 with AMX, else
float32), the same weights, loaded before. Timed are bringing all documents into a new collection, and queries from text
to ten documents, each asked once a round. A round before does not count. Printed: the ratio of documents a second, and
of the median time of a query.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

import compare_frameworks
from compare_frameworks import FRAMEWORKS, Texts
from corpora import folder_of, read_texts
from diptych.evaluate import read_beir
from figures import RATIO, Figure, Result
from machine import cores, versions
from variants import fastest

SIDES = ("before", "two_lines")
LIMIT = 10


def timed(framework: Any, embedder: Any, texts: Texts, queries: Sequence[str]) -> tuple[float, float]:
    """Seconds of bringing the documents in, and of a query, the median."""
    begin = time.perf_counter()
    ask = framework.quick_start(embedder, texts)
    filling, took = time.perf_counter() - begin, []
    for query in queries:
        begin = time.perf_counter()
        ask(query)
        took.append(time.perf_counter() - begin)
    return filling, median(took)


def measured(name: str, texts: Texts, queries: Sequence[str], rounds: int) -> list[Figure]:
    """The ratios of each round."""
    framework = FRAMEWORKS[name]()
    embedders = {side: getattr(framework, side)() for side in SIDES}
    filling, asking = [], []
    for number in range(rounds + 1):
        order = SIDES if number % 2 else SIDES[::-1]
        found = {side: timed(framework, embedders[side], texts, queries) for side in order}
        if number:
            filling.append(found["before"][0] / found["two_lines"][0])
            asking.append(found["before"][1] / found["two_lines"][1])
            print(f"{name}: documents {filling[-1]:.2f}, query {asking[-1]:.2f} times as fast", flush=True)
    return [
        Figure("documents a second, ratio", name, RATIO, filling, "its quick start"),
        Figure("median time of a query, ratio", name, RATIO, asking, "its quick start"),
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="below $DIPTYCH_DATA, or a path")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    compare_frameworks.DEEP = LIMIT
    corpus = folder_of(options.corpus)
    texts = dict(islice(read_texts(corpus).items(), options.documents))
    queries = [query.text for query in read_beir(corpus)[0]][: options.queries]
    figures = [f for name in options.frameworks.split(",") for f in measured(name, texts, queries, options.rounds)]
    notes = [
        f"{len(texts)} documents and {len(queries)} queries of {corpus.name}; the framework's own store on both sides; "
        f"{fastest(seen=False)}."
    ]
    Result("Two changed lines in a framework", figures, notes, {"diptych": versions()}, cores()).write(options.json)


if __name__ == "__main__":
    main()
