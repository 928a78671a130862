"""What a swap costs: its back-fill beside the encoder alone, and queries during it beside queries before it.

    python tests/benchmarks/bench_swap.py --corpus examples/debian --documents 1400 --rounds 3 --rate 10

The swap is from all-MiniLM-L6-v2 to its first 256 dimensions, in Edge, with the embedding cache off.

1. Back-fill: documents a second of `apply`, from its first document to its last, over documents a second of the same
   encoder called once with the same texts. Both use the same threads; rounds alternate.
2. Queries: a thread asks at a steady rate while nothing else goes on, then all through an apply with gate and cut-over,
   then through the rollback. Times run from the moment at which a query was due, so a query that waits for the one
   before it counts its waiting. Printed: p50, p95, p99, their ratios, failed queries, and answers that are not those
   of one encoder, which every answer is checked for by scores computed without Qdrant.
3. Rollback: its seconds, and whether every query finds the same first ten as before the swap.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from qdrant_client import models

from diptych import Collection
from diptych.config import Config, parse_config
from diptych.swap import ApplyOptions
from diptych.types import Floats, Hit

OLD: Mapping[str, Any] = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}
NEW: Mapping[str, Any] = {**OLD, "truncate_dim": 256}
EXACT = models.SearchParams(exact=True)
CLOSE = 2e-3  # of scores: the text that is encoded in another batch has slightly other vectors


class FillWatch:
    """Progress that takes the time from the begin of the back-fill to its last document."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def begin(self, stage: str, total: int | None) -> None:
        if stage == "fill":
            self.begun = time.perf_counter()

    def advance(self, stage: str, n: int) -> None:
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


@dataclass(slots=True)
class Answer:
    """One query of the load: its number, seconds from when it was due, and the hits, or the error."""

    query: int
    due: float
    seconds: float
    hits: list[Hit] = field(default_factory=list)
    error: str = ""


class Load:
    """A thread that asks at a steady rate."""

    def __init__(self, collection: Collection, queries: Sequence[str], rate: float) -> None:
        self._collection, self._queries, self._rate = collection, queries, rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.answers: list[Answer] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> list[Answer]:
        return [one for one in list(self.answers) if begin <= one.due < end]

    def _run(self) -> None:
        for due in self._times():
            number = len(self.answers) % len(self._queries)
            self.answers.append(self._asked(number, due))

    def _asked(self, number: int, due: float) -> Answer:
        try:
            hits = self._collection.search(self._queries[number], params=EXACT)
        except Exception as error:
            return Answer(number, due, time.perf_counter() - due, error=str(error))
        return Answer(number, due, time.perf_counter() - due, hits)

    def _times(self) -> Iterator[float]:
        due = time.perf_counter()
        while not self._over.wait(max(0.0, due - time.perf_counter())):
            yield due
            due += 1 / self._rate


def config(store: Path, slot: Mapping[str, Any]) -> Config:
    raw = {"store": f"edge:{store}", "collection": "c", "slots": {"dense": dict(slot)}, "cache": {"enabled": False}}
    return parse_config(raw)


def corpus(folder: Path, number: int) -> dict[str, str]:
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        texts = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows if row["text"].strip()}
    return dict(list(texts.items())[:number])


def questions(folder: Path) -> list[str]:
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def unit(rows: Floats) -> Floats:
    made: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def back_fill(live: Collection, store: Path, texts: Sequence[str], rounds: int) -> None:
    """Print the ratio of each round."""
    options, ratios = ApplyOptions(gate=False, cut_over=False), []
    for number in range(rounds):
        encoder = live.handle.slot("dense").encoder
        begin = time.perf_counter()
        encoder.encode_document(list(texts))
        alone = len(texts) / (time.perf_counter() - begin)
        watch = FillWatch()
        live.apply(config(store, NEW), options, progress=watch)
        filled = len(texts) / watch.seconds
        live.rollback()
        ratios.append(filled / alone)
        print(f"round {number + 1}: encoder alone {alone:.1f}/s, back-fill {filled:.1f}/s, ratio {ratios[-1]:.3f}")
    print(f"back-fill / encoder alone: median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}\n")


def serve(live: Collection, store: Path, texts: Mapping[str, str], queries: Sequence[str], rate: float) -> None:
    """Print what queries meet during a swap and its rollback."""
    before = first_ten(live, queries)
    scores = {"old": computed(live, texts, queries)}
    with Load(Collection.open(live.client, "c"), queries, rate) as load:
        time.sleep(2)
        marks = [time.perf_counter()]
        time.sleep(max(20.0, 200 / rate))
        marks.append(time.perf_counter())
        report = live.apply(config(store, NEW), ApplyOptions(unmeasured=True))
        marks.append(time.perf_counter())
        time.sleep(5)
        scores["new"] = computed(live, texts, queries)
        marks.append(time.perf_counter())
        live.rollback()
        back = time.perf_counter() - marks[-1]
        time.sleep(5)
    print(f"apply {report.seconds:.1f} s, {report.outcome}; gate: {report.gate.sentence if report.gate else None}")
    show("before", load.between(marks[0], marks[1]))
    show("during", load.between(marks[1], marks[2]))
    ratio(load.between(marks[0], marks[1]), load.between(marks[1], marks[2]))
    failed = [one.error for one in load.answers if one.error]
    whose = [of_whom(one, scores, list(texts)) for one in load.answers if not one.error]
    counts = {name: whose.count(name) for name in ("old", "new", "mixed")}
    print(f"answers {len(load.answers)}, failed {len(failed)} {failed[:1]}, by encoder {counts}")
    same = sum(a == b for a, b in zip(before, first_ten(live, queries), strict=True))
    print(f"rollback {back:.3f} s; same first ten as before the swap: {same} of {len(queries)} queries")


def computed(live: Collection, texts: Mapping[str, str], queries: Sequence[str]) -> Floats:
    """All scores by the live encoder, computed without Qdrant, float32 `[queries, documents]`."""
    encoder = live.handle.slot("dense").encoder
    found: Floats = unit(encoder.encode_query(list(queries))) @ unit(encoder.encode_document(list(texts.values()))).T
    return found


def of_whom(answer: Answer, scores: Mapping[str, Floats], ids: Sequence[str]) -> str:
    rows = {name: row for row, name in enumerate(ids)}
    got = [hit.score for hit in answer.hits]
    for name, known in scores.items():
        if got and np.allclose(got, [known[answer.query, rows[hit.id]] for hit in answer.hits], atol=CLOSE):
            return name
    return "mixed"


def first_ten(live: Collection, queries: Sequence[str]) -> list[list[str]]:
    return [[hit.id for hit in live.search(query, params=EXACT)] for query in queries]


def show(name: str, answers: Sequence[Answer]) -> None:
    p50, p95, p99 = np.percentile([one.seconds * 1000 for one in answers], [50, 95, 99])
    print(f"{name}: {len(answers)} queries, p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")


def ratio(before: Sequence[Answer], during: Sequence[Answer]) -> None:
    then, now = (np.percentile([one.seconds for one in part], [50, 95, 99]) for part in (before, during))
    print(
        "during / before: " + ", ".join(f"{p} {r:.2f}" for p, r in zip(("p50", "p95", "p99"), now / then, strict=True))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[2] / "examples" / "debian")
    parser.add_argument("--documents", type=int, default=1400)
    parser.add_argument("--queries", type=int, default=225)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10, help="queries a second")
    options = parser.parse_args()
    texts, queries = corpus(options.corpus, options.documents), questions(options.corpus)[: options.queries]
    with tempfile.TemporaryDirectory() as folder, Collection.open(config(Path(folder), OLD)) as live:
        live.populate([{"id": name, "text": text} for name, text in texts.items()])
        back_fill(live, Path(folder), list(texts.values()), options.rounds)
        serve(live, Path(folder), texts, queries, options.rate)


if __name__ == "__main__":
    main()
