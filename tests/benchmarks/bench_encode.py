"""How fast and how well a dense model encodes: diptych's engines beside sentence-transformers' own encode.

    taskset -c 0,1 python tests/benchmarks/bench_encode.py --corpus cranfield --documents 400 --rounds 5
    python tests/benchmarks/bench_encode.py --quality cranfield,med,cisi,scifact

all-MiniLM-L6-v2 on the CPU, all in one process; all ways use as many threads as there are cores to run on
(bench_peers.py gives each side a process and an environment of its own). Each round times every way once, in an order
that moves on, after a warm-up that does not count: documents, then single queries. `--quality` measures nDCG@10 on the
test judgements of these collections instead, all documents scored. `--ways` picks variants (variants.py) with commas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from corpora import folder_of, read_texts
from diptych.evaluate import evaluate, read_beir
from diptych.types import Floats, Run
from diptych_adapters.models import resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from figures import RATIO, Figure, Result, ratios
from machine import cores, versions
from rounds import interleaved, seconds
from variants import MINILM, chosen

Way = Callable[[Sequence[str]], Floats]
LIBRARY = "sentence-transformers"
QUERIES = 50
LOSS = "<= 0.005"  # of nDCG@10 against the library's vectors


def ways(names: str, texts: Sequence[str]) -> dict[str, Way]:
    model: Any = SentenceTransformer(str(resolve(MINILM).path), device="cpu")

    def library(texts: Sequence[str]) -> Floats:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)

    made = {
        name: SentenceTransformerEncoder.of(model=MINILM, device="cpu", **variant.options)
        for name, variant in chosen(names).items()
    }
    for name, encoder in made.items():
        print(f"{name}: runs as {encoder.numerics}")
    return {LIBRARY: library, **{name: encoder.encode_document for name, encoder in made.items()}}


def speed(found: Mapping[str, Way], documents: Sequence[str], rounds: int) -> list[Figure]:
    """Documents in one call, and queries one by one."""
    queries = [text[:60] for text in documents[:QUERIES]]
    works: dict[str, Callable[[Way], object]] = {
        "documents": lambda way: way(documents),
        "queries one by one": lambda way: [way([query]) for query in queries],
    }
    figures = []
    for what, work in works.items():
        jobs = {name: partial(_once, work, way) for name, way in found.items()}
        took = interleaved(jobs, rounds)
        figures += [
            Figure(f"{what}, ratio", name, RATIO, ratios(took[LIBRARY], own), LIBRARY)
            for name, own in took.items()
            if name != LIBRARY
        ]
        number = len(documents) if what == "documents" else len(queries)
        figures += [Figure(what, name, "1/s", [number / each for each in own]) for name, own in took.items()]
    return figures


def _once(work: Callable[[Way], object], way: Way, number: int) -> float:
    return seconds(lambda: work(way))


def likeness(found: Mapping[str, Way], texts: Sequence[str]) -> list[Figure]:
    vectors = {name: way(texts) for name, way in found.items()}
    least = {
        name: float((own * vectors[LIBRARY]).sum(axis=1).min()) for name, own in vectors.items() if name != LIBRARY
    }
    return [Figure("least cosine of a document", name, "cosine", [cosine], LIBRARY) for name, cosine in least.items()]


def quality(names: str, folder: Path) -> list[Figure]:
    """nDCG@10 of each way on one collection, and what is lost of the library's; int8 sees its first texts."""
    texts = read_texts(folder)
    found = ways(names, list(texts.values()))
    reached = {name: _ndcg(name, way, folder, texts) for name, way in found.items()}
    title = f"nDCG@10, {folder.name}"
    losses = {name: reached[LIBRARY] - own for name, own in reached.items() if name != LIBRARY}
    figures = [Figure(title, name, "nDCG@10", [own]) for name, own in reached.items()]
    return figures + [Figure(f"loss of {title}", name, "nDCG@10", [own], LIBRARY, LOSS) for name, own in losses.items()]


def _ndcg(name: str, way: Way, folder: Path, texts: Mapping[str, str]) -> float:
    queries, qrels = read_beir(folder)
    ids = list(texts)
    scores = way([query.text for query in queries]) @ way(list(texts.values())).T
    best = np.argsort(-scores, axis=1)[:, :10]
    ranked = {
        query.id: [(ids[place], float(row[place])) for place in order]
        for query, row, order in zip(queries, scores, best, strict=True)
    }
    return float(evaluate(Run(name, ranked), qrels, ["nDCG@10"]).means["nDCG@10"])


def measure(options: argparse.Namespace) -> Result:
    if options.quality:
        folders = dict.fromkeys(folder_of(name) for name in options.quality.split(","))
        figures = [figure for folder in folders for figure in quality(options.ways, folder)]
        notes = ["Test judgements, every document scored, all-MiniLM-L6-v2, the same way for queries and documents."]
        return Result("What faster encoders cost in nDCG@10", figures, notes, {"diptych": versions()})
    folder = folder_of(options.corpus)
    documents = list(read_texts(folder).values())[: options.documents]
    found = ways(options.ways, documents)
    figures = [*speed(found, documents, options.rounds), *likeness(found, documents)]
    notes = [f"{len(documents)} documents of {folder.name}, {options.rounds} rounds, all in one process."]
    return Result("Encoding in one process", figures, notes, {"diptych": versions()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="a collection below $DIPTYCH_DATA")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", default="", help="collections below $DIPTYCH_DATA with commas")
    parser.add_argument("--ways", default="", help="variants of diptych; all unless given")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    measure(options).write(options.json)


if __name__ == "__main__":
    main()
