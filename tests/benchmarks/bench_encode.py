"""How fast a dense model encodes: diptych's engines beside sentence-transformers' own encode, in one run.

    taskset -c 0,1 python tests/benchmarks/bench_encode.py --corpus "$DIPTYCH_DATA/cranfield" --documents 400 --rounds 5

all-MiniLM-L6-v2 on the CPU; all ways use as many threads as there are cores to run on. Each round times every way once,
in an order that moves on, after a warm-up that does not count. Printed for each way: documents a second (median), the
ratio to sentence-transformers by round (median, least and most), and the least cosine to its vectors; for single
queries the same. `--quality` adds nDCG@10 on the test judgements of the corpus, all documents scored.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from diptych.evaluate import evaluate, read_beir
from diptych.types import Floats, Run
from diptych_adapters.models import resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

Way = Callable[[Sequence[str]], Floats]
LIBRARY = "sentence-transformers"
WAYS: Mapping[str, Mapping[str, Any]] = {
    "torch float32": {},
    "torch bfloat16": {"precision": "bfloat16"},
    "openvino float32": {"backend": "openvino"},
    "openvino bfloat16": {"backend": "openvino", "precision": "bfloat16"},
}
QUERIES = 50


def ways() -> dict[str, Way]:
    model: Any = SentenceTransformer(str(resolve("all-MiniLM-L6-v2").path), device="cpu")

    def library(texts: Sequence[str]) -> Floats:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)

    made = {
        name: SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu", **options)
        for name, options in WAYS.items()
    }
    for name, encoder in made.items():
        print(f"{name}: runs as {encoder.numerics}")
    return {LIBRARY: library, **{name: encoder.encode_document for name, encoder in made.items()}}


def corpus(folder: Path) -> dict[str, str]:
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows if row["text"].strip()}


def timed(found: Mapping[str, Way], job: Callable[[Way], object], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way by round."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    names = list(found)
    for number in range(rounds + 1):
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            begin = time.perf_counter()
            job(found[name])
            seconds[name].append(time.perf_counter() - begin)
    return {name: all_rounds[1:] for name, all_rounds in seconds.items()}


def show(title: str, seconds: Mapping[str, list[float]], number: int) -> None:
    print(f"\n| {title} | a second | ratio | least | most |\n|---|---|---|---|---|")
    for name, own in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds[LIBRARY], own, strict=True)]
        spread = f"{median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"
        print(f"| {name} | {number / median(own):.1f} | {spread} |")


def likeness(found: Mapping[str, Way], texts: Sequence[str]) -> None:
    reference = found[LIBRARY](texts)
    print("\n| vectors | least cosine to the library's |\n|---|---|")
    for name, way in found.items():
        print(f"| {name} | {float((way(texts) * reference).sum(axis=1).min()):.6f} |")


def quality(found: Mapping[str, Way], folder: Path, texts: Mapping[str, str]) -> None:
    queries, qrels = read_beir(folder)
    ids = list(texts)
    print(f"\n| {folder.name}, {len(ids)} documents, {len(queries)} queries | nDCG@10 |\n|---|---|")
    for name, way in found.items():
        scores = way([query.text for query in queries]) @ way(list(texts.values())).T
        best = np.argsort(-scores, axis=1)[:, :10]
        ranked = {
            query.id: [(ids[place], float(row[place])) for place in order]
            for query, row, order in zip(queries, scores, best, strict=True)
        }
        print(f"| {name} | {evaluate(Run(name, ranked), qrels, ['nDCG@10']).means['nDCG@10']:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[2] / "examples" / "debian")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", action="store_true")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores)
    texts, found = corpus(options.corpus), ways()
    documents = list(texts.values())[: options.documents]
    questions = [text[:60] for text in documents[:QUERIES]]
    print(f"{len(documents)} documents of {options.corpus.name}, {cores} threads")
    show("documents", timed(found, lambda way: way(documents), options.rounds), len(documents))
    show("queries, one by one", timed(found, lambda way: [way([q]) for q in questions], options.rounds), len(questions))
    likeness(found, documents)
    if options.quality:
        quality(found, options.corpus, texts)


if __name__ == "__main__":
    main()
