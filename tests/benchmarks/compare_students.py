"""Students of MiniLM's queries over an index that stays: quality beside the teacher, and the time of a query.

    DIPTYCH_DATA=... python tests/benchmarks/compare_students.py scifact cranfield --out build/students

Each student is trained by the recipe `student` on the collection's sentences and titles and, where the collection has
queries beside those of the test, on these; held-out sentences choose the checkpoint. Documents are MiniLM vectors,
searched exactly; intervals are paired bootstraps over the queries. Times are of one query at a time on one thread,
encoding alone and a whole search of an embedded collection, all ways in turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from corpora import folder_of, read_documents
from diptych import Collection, Registry, Run
from diptych.config import parse_config
from diptych.encoders import Encoders, NamedEncoder
from diptych.evaluate import compare, evaluate, read_beir, read_queries
from diptych.swap import ApplyOptions
from diptych.training import load_recipe
from diptych.types import Floats, Query
from machine import facts
from rounds import interleaved, seconds

MODEL, METRIC, DEPTH = "all-MiniLM-L6-v2", "nDCG@10", 100
STUDENTS: dict[str, dict[str, Any]] = {
    "static": {"student": {"kind": "static"}, "training": {"learning_rate": 1e-2, "batch_size": 128}},
    "1 layer": {"student": {"layers": 1}, "training": {"learning_rate": 3e-4, "batch_size": 64}},
    "2 layers": {"student": {"layers": 2}, "training": {"learning_rate": 3e-4, "batch_size": 64}},
}


class Quiet:
    """A watcher that shows sentences alone."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Print it."""
        print(sentence, flush=True)


def trained(folder: Path, name: str, output: Path, epochs: int) -> tuple[str, dict[str, Any]]:
    """Adapter and options of a student, trained unless it is there."""
    own, queries = STUDENTS[name], others(folder, output)
    raw: dict[str, Any] = {
        "recipe": "student",
        "model": MODEL,
        "output": str(output / f"{folder.name} {name}".replace(" ", "-")),
        "data": {"corpus": str(folder / "corpus.jsonl.gz"), **({"queries": str(queries)} if queries else {})},
        "student": own["student"],
        "training": {"epochs": epochs, "device": "cpu", "warmup": 0.05, **own["training"]},
    }
    report = load_recipe(raw, Registry.default()).make(Quiet()).train()
    print(f"{name}: {report.steps} steps, {report.seconds:.0f} s", *report.remarks, sep="\n  ", flush=True)
    return report.models[0].adapter, dict(report.models[0].options)


def others(folder: Path, output: Path) -> Path | None:
    """A file of the queries that the test does not ask; None where there are none."""
    asked = {query.id for query in read_beir(folder)[0]}
    rest = [query for query in read_queries(folder / "queries.jsonl.gz") if query.id not in asked]
    if not rest:
        return None
    path = output.absolute() / f"{folder.name}-queries.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"_id": query.id, "text": query.text}) + "\n" for query in rest))
    return path


def ranked(name: str, queries: list[Query], vectors: Floats, documents: Floats, ids: list[str]) -> Run:
    """The exact search of all queries as a run."""
    scores = vectors @ documents.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    found = {
        query.id: [(ids[place], float(scores[row, place])) for place in order[row]] for row, query in enumerate(queries)
    }
    return Run(name, found)


def collection(folder: Path, ways: dict[str, tuple[str, dict[str, Any]]], documents: int) -> dict[str, Collection]:
    """An embedded collection for each way, filled once by the teacher; students are admitted whatever they lose."""
    opened = {}
    corpus = list(read_documents(folder).values())[:documents]
    for name, (adapter, options) in ways.items():
        store = f"edge:build/students-store/{folder.name}-{name}".replace(" ", "-")
        base: dict[str, Any] = {"store": store, "collection": "c"}
        dense: dict[str, Any] = {"adapter": "sentence-transformers", "model": MODEL, "device": "cpu"}
        with Collection.open(parse_config({**base, "slots": {"dense": dense}})) as filled:
            filled.populate(corpus)
            if name != "teacher":
                rest = {key: value for key, value in options.items() if key != "model"}
                dense = {**dense, "query": {"adapter": adapter, "student": options["model"], **rest}}
                filled.apply(parse_config({**base, "slots": {"dense": dense}}), ApplyOptions(gate=False))
        opened[name] = Collection.open(parse_config({**base, "slots": {"dense": dense}}))
    return opened


def timed(queries: list[str], jobs: Mapping[str, Callable[[str], object]]) -> dict[str, list[float]]:
    """Milliseconds of each query, the ways in turn."""

    def job(ask: Callable[[str], object]) -> Callable[[int], float]:
        return lambda number: 1000 * seconds(lambda: ask(queries[number % len(queries)]))

    return interleaved({name: job(ask) for name, ask in jobs.items()}, len(queries))


def alone(encoder: NamedEncoder) -> Callable[[str], object]:
    """Encodes one query."""
    return lambda text: encoder.encode_query([text])


def main() -> None:
    """Print a table for each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("build/students"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--students", default=",".join(STUDENTS))
    options = parser.parse_args()
    import torch

    for name in options.sets:
        folder = folder_of(name)
        queries, qrels = read_beir(folder)
        ways = {"teacher": ("sentence-transformers", {"model": MODEL, "device": "cpu"})}
        ways |= {own: trained(folder, own, options.out, options.epochs) for own in options.students.split(",")}
        texts = {key: f"{own.title} {own.text}".strip() for key, own in read_documents(folder).items()}
        torch.set_num_threads(1)
        encoders = Encoders.open(None)
        made = {way: encoders.with_options(*given) for way, given in ways.items()}
        documents = np.stack(made["teacher"].encode_document(list(texts.values())))  # type: ignore[arg-type]
        asked = [query.text for query in queries]
        runs = [
            ranked(way, list(queries), np.stack(own.encode_query(asked)), documents, list(texts))  # type: ignore[arg-type]
            for way, own in made.items()
        ]
        scored = [evaluate(run, qrels, [METRIC, "R@100"]) for run in runs]
        encoding = timed(asked, {way: alone(own) for way, own in made.items()})
        opened = collection(folder, ways, len(texts))
        searching = timed(asked, {way: own.search for way, own in opened.items()})
        print(f"\n{name}: {len(texts):,} documents, {len(queries)} queries, {facts()['cpu']}, one thread\n")
        print("| queries by | nDCG@10 | share | difference | overlap@10 | encode ms | times | search p50 ms | p95 |")
        print("|---|---|---|---|---|---|---|---|---|")
        for way, own, run in zip(ways, scored, runs, strict=True):
            mean, base = own.means[METRIC], scored[0].means[METRIC]
            (found,) = compare([scored[0], own], "teacher", METRIC).differences if own is not scored[0] else (None,)
            shown = "" if found is None else f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            common = np.mean([overlap(run, runs[0], query.id) for query in queries])
            cost = median(encoding[way])
            p50, p95 = np.percentile(searching[way], [50, 95])
            ratio = median(encoding["teacher"]) / cost
            print(
                f"| {way} | {mean:.3f} | {mean / base:.2f} | {shown} | {common:.2f} | {cost:.2f} | {ratio:.1f} "
                f"| {p50:.2f} | {p95:.2f} |",
                flush=True,
            )
        for one in opened.values():
            one.close()


def overlap(run: Run, base: Run, query: str) -> float:
    """The share of the first ten in common."""
    ours, theirs = ({name for name, _ in list(side.rankings[query])[:10]} for side in (run, base))
    return len(ours & theirs) / 10


if __name__ == "__main__":
    main()
