"""Students of MiniLM's queries over an index that stays: quality beside the teacher, and the time of a query.

    DIPTYCH_DATA=... python tests/benchmarks/compare_students.py scifact cranfield --out build/students

Each student is trained by the recipe `student` on the collection's sentences and titles and, where the collection has
queries beside those of the test, on these; held-out sentences choose the checkpoint. Documents are MiniLM vectors,
searched exactly. Values are means over the seeds, with the lowest and the highest; intervals are paired bootstraps over
the queries of these means. `--ask SET` has the same students ask the queries of another collection, over its documents.
Times are of one query at a time on one thread, encoding alone and a whole search of an embedded collection, all ways in
turn; `--quality` leaves them out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from corpora import folder_of, read_documents
from diptych import Collection, Registry, Run
from diptych.config import parse_config
from diptych.encoders import Encoders, NamedEncoder
from diptych.evaluate import Evaluation, compare, evaluate, read_beir, read_queries
from diptych.swap import ApplyOptions
from diptych.training import load_recipe
from diptych.types import Floats, Query
from machine import facts
from rounds import interleaved, seconds

MODEL, METRIC, DEPTH = "all-MiniLM-L6-v2", "nDCG@10", 100
Way: TypeAlias = tuple[str, dict[str, Any]]  # an adapter and its options
STUDENTS: dict[str, dict[str, Any]] = {"static": {"learning_rate": 1e-2, "batch_size": 128}}


class Quiet:
    """A watcher that shows sentences alone."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Print it."""
        print(sentence, flush=True)


def trained(folder: Path, name: str, output: Path, options: argparse.Namespace, seed: int) -> Way:
    """Adapter and options of a student, trained unless it is there."""
    own, queries = STUDENTS[name], others(folder, output)
    raw: dict[str, Any] = {
        "recipe": "student",
        "model": MODEL,
        "output": str(output / f"{folder.name} {name} {seed}".replace(" ", "-")),
        "seed": seed,
        "data": {"corpus": str(folder / "corpus.jsonl.gz"), **({"queries": str(queries)} if queries else {})},
        "training": {
            "epochs": options.epochs,
            "precision": options.precision,
            "device": "cpu",
            "warmup": 0.05,
            **own,
        },
    }
    report = load_recipe(raw, Registry.default()).make(Quiet()).train()
    done = f"{report.steps} steps, {report.seconds:.0f} s"
    print(f"{name}, seed {seed}: {done}", *report.remarks, report.measured, sep="\n  ", flush=True)
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


def quality(folder: Path, ways: Mapping[str, Sequence[NamedEncoder]]) -> dict[str, str]:
    """The columns of each way's queries over the teacher's vectors of the documents."""
    queries, qrels = read_beir(folder)
    texts = {key: f"{own.title} {own.text}".strip() for key, own in read_documents(folder).items()}
    documents = np.stack(ways["teacher"][0].encode_document([*texts.values()]))  # type: ignore[arg-type]
    asked = [query.text for query in queries]

    def run(encoder: NamedEncoder) -> Run:
        return ranked("run", list(queries), np.stack(encoder.encode_query(asked)), documents, [*texts])  # type: ignore[arg-type]

    present, rows = run(ways["teacher"][0]), {}
    base = mean_of([evaluate(present, qrels, [METRIC])], "teacher")
    print(f"\n{folder.name}: {len(texts):,} documents, {len(queries)} queries", flush=True)
    for way, seeds in ways.items():
        runs = [run(own) for own in seeds]
        scored = [evaluate(own, qrels, [METRIC]) for own in runs]
        value = mean_of(scored, "mean")
        (found,) = compare([base, value], "teacher", METRIC).differences if way != "teacher" else (None,)
        gap = "" if found is None else f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        common = [float(np.mean([overlap(own, present, query.id) for query in queries])) for own in runs]
        each = shown([own.means[METRIC] for own in scored], 3)
        rows[way] = f"{each} | {value.means[METRIC] / base.means[METRIC]:.2f} | {gap} | {shown(common, 2)}"
    return rows


def mean_of(evaluations: Sequence[Evaluation], name: str) -> Evaluation:
    """The mean over the seeds of each query's value."""
    queries = evaluations[0].per_query[METRIC]
    values = {query: float(np.mean([own.per_query[METRIC][query] for own in evaluations])) for query in queries}
    return Evaluation(name, {METRIC: values})


def shown(values: Sequence[float], digits: int) -> str:
    """The mean and, if the values differ, the lowest and the highest."""
    mean, low, high = (f"{value:.{digits}f}" for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def times(folder: Path, ways: Mapping[str, Way], made: Mapping[str, NamedEncoder]) -> dict[str, str]:
    """The columns of the times of each way's queries, one at a time."""
    asked = [query.text for query in read_beir(folder)[0]]
    encoding = timed(asked, {way: alone(own) for way, own in made.items()})
    opened = collection(folder, dict(ways), len(read_documents(folder)))
    searching = timed(asked, {way: own.search for way, own in opened.items()})
    for one in opened.values():
        one.close()
    rows = {}
    for way in ways:
        p50, p95 = np.percentile(searching[way], [50, 95])
        cost = median(encoding[way])
        rows[way] = f"{cost:.2f} | {median(encoding['teacher']) / cost:.1f} | {p50:.2f} | {p95:.2f}"
    return rows


def main() -> None:
    """Print a table for each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("build/students"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--ask", nargs="*", default=[], help="collections whose queries are asked as well")
    parser.add_argument("--quality", action="store_true", help="leave the times out")
    options = parser.parse_args()
    import torch

    names = options.students.split(",")
    for name in options.sets:
        folder = folder_of(name)
        ways: dict[str, list[Way]] = {"teacher": [("sentence-transformers", {"model": MODEL, "device": "cpu"})]}
        ways |= {own: [trained(folder, own, options.out, options, seed) for seed in options.seeds] for own in names}
        torch.set_num_threads(1)
        encoders = Encoders.open(None)
        made = {way: [encoders.with_options(*own).required("dense") for own in seeds] for way, seeds in ways.items()}
        columns = [quality(folder, made)]
        head = ["queries by", METRIC, "share", "difference", "overlap@10"]
        if not options.quality:
            first = {way: seeds[0] for way, seeds in ways.items()}
            columns.append(times(folder, first, {way: seeds[0] for way, seeds in made.items()}))
            head += ["encode ms", "times", "search p50 ms", "p95"]
            print(f"{facts()['cpu']}, one thread")
        show(head, columns)
        for other in options.ask:
            show(head[:5], [quality(folder_of(other), made)])


def show(head: Sequence[str], columns: Sequence[Mapping[str, str]]) -> None:
    """A table."""
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for way in columns[0]:
        print(f"| {way} | {' | '.join(own[way] for own in columns)} |", flush=True)


def overlap(run: Run, base: Run, query: str) -> float:
    """The share of the first ten in common."""
    ours, theirs = ({name for name, _ in list(side.rankings[query])[:10]} for side in (run, base))
    return len(ours & theirs) / 10


if __name__ == "__main__":
    main()
