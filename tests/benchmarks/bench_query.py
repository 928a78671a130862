"""How long a query takes from text to hits, and how many concurrent callers get answers, on Qdrant Edge.

    taskset -c 0,1 python tests/benchmarks/bench_query.py --corpus "$DIPTYCH_DATA/cranfield" --points 1400 --rounds 5

all-MiniLM-L6-v2 on the CPU; the points are the corpus's own vectors, jittered where more are asked for than it has
documents, in an optimised shard. The queries are the corpus's own, and none is remembered. In each round every way
answers all queries once, in an order that moves on: one caller (`search`), one and 16 coroutines (`asearch`), and 16
threads (`search`). Printed: milliseconds of a query by one caller (median, 95%), and for each way queries a second
(median of the rounds), the ratio to one caller by round, and the processor's milliseconds for a query, which other
programs disturb less. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from qdrant_client import models

from corpora import folder_of
from diptych.collection.collection import Collection
from diptych.config import parse_config
from diptych.evaluate import read_beir
from diptych.metadata.payloads import NATIVE
from diptych.types import Document, Floats
from figures import RATIO, Figure, Result
from machine import cores, versions
from variants import fastest

CALLERS = 16
WAYS = ("one caller", "one coroutine", f"{CALLERS} coroutines", f"{CALLERS} threads")
Times = dict[str, list[tuple[float, float]]]  # wall clock and processor, seconds for all queries, by round


def opened(folder: Path, backend: str, precision: str | None) -> Collection:
    numbers = {"precision": precision} if precision else {}
    slot = {
        "adapter": "sentence-transformers",
        "model": "all-MiniLM-L6-v2",
        "device": "cpu",
        "backend": backend,
        **numbers,
    }
    config = {"store": f"edge:{folder}", "collection": "bench", "slots": {"dense": slot}, "cache": {"enabled": False}}
    return Collection.open(parse_config({**config, "search": {"remember": 0}}))


def fill(collection: Collection, documents: Sequence[Document], points: int) -> None:
    """The documents with their vectors, and jittered copies of them up to the number of points."""
    handle, random = collection.handle, np.random.default_rng(0)
    handle.create({})
    slot, texts = handle.slot("dense"), [f"{d.title} {d.text}".strip() for d in documents]
    own: Floats = np.stack(slot.encode("document", texts))  # type: ignore[arg-type]
    make = models.PointStruct.model_construct
    for first in range(0, points, len(own)):
        rows = own[: points - first]
        rows = rows + 0.02 * random.normal(size=rows.shape).astype(np.float32) if first else rows
        piece = zip(rows, documents, strict=False)
        numbered = [(first + n, row, document) for n, (row, document) in enumerate(piece)]
        payloads = (NATIVE.write(Document(f"d{n}", d.text, d.title), "0" * 32) for n, _, d in numbered)
        made = [
            make(id=n, vector={slot.vector: row}, payload=p) for (n, row, _), p in zip(numbered, payloads, strict=True)
        ]
        collection.client.upsert(collection.name, made)
    collection.client.optimize(collection.name)  # type: ignore[attr-defined]


def one_caller(collection: Collection, queries: Sequence[str]) -> list[float]:
    """Seconds of each query."""
    seconds = []
    for query in queries:
        begin = time.perf_counter()
        collection.search(query)
        seconds.append(time.perf_counter() - begin)
    return seconds


def coroutines(collection: Collection, queries: Sequence[str], callers: int) -> None:
    waiting = iter(queries)

    async def caller() -> None:
        for query in waiting:
            await collection.asearch(query)

    async def all_callers() -> None:
        await asyncio.gather(*(caller() for _ in range(callers)))

    asyncio.run(all_callers())


def threads(collection: Collection, queries: Sequence[str], callers: int) -> None:
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(collection.search, queries))


def measure(collection: Collection, queries: Sequence[str], rounds: int) -> tuple[Times, list[float]]:
    """Times of each way, and seconds of each query by one caller; a first round is left out."""
    single: list[float] = []
    ways: dict[str, Callable[[], object]] = {
        WAYS[0]: lambda: single.extend(one_caller(collection, queries)),
        WAYS[1]: lambda: coroutines(collection, queries, 1),
        WAYS[2]: lambda: coroutines(collection, queries, CALLERS),
        WAYS[3]: lambda: threads(collection, queries, CALLERS),
    }
    times: Times = {name: [] for name in WAYS}
    for number in range(rounds + 1):
        for place in range(len(WAYS)):
            name = WAYS[(place + number) % len(WAYS)]
            begin, busy = time.perf_counter(), time.process_time()
            ways[name]()
            times[name].append((time.perf_counter() - begin, time.process_time() - busy))
    return {name: own[1:] for name, own in times.items()}, single[len(queries) :]


def figures(times: Times, single: Sequence[float], number: int, way: str) -> list[Figure]:
    """What is kept as JSON."""
    rounds = len(times[WAYS[0]])
    each = [np.array(single[start * number : (start + 1) * number]) * 1000 for start in range(rounds)]
    found = [
        Figure(f"query by one caller, {share}%", way, "ms", [float(np.percentile(own, share)) for own in each])
        for share in (50, 95)
    ]
    for name, own in times.items():
        found.append(Figure(f"queries, {name}", way, "1/s", [number / wall for wall, _ in own]))
        ratios = [one / many for (one, _), (many, _) in zip(times[WAYS[0]], own, strict=True)]
        if name != WAYS[0]:
            wanted = ">= 3" if name == WAYS[2] else ""
            found.append(Figure(f"throughput, {name}", way, RATIO, ratios, WAYS[0], wanted))
    return found


def summary(times: Times, single: Sequence[float], number: int) -> dict[str, Any]:
    rows = {}
    for name, own in times.items():
        ratios = [one / many for (one, _), (many, _) in zip(times[WAYS[0]], own, strict=True)]
        rates = {"queries_per_second": number / median(wall for wall, _ in own), "ratio": median(ratios)}
        spread = {"least_ratio": min(ratios), "most_ratio": max(ratios)}
        rows[name] = {**rates, **spread, "processor_ms": 1000 * median(busy for _, busy in own) / number}
    p50, p95 = (1000 * float(np.percentile(single, p)) for p in (50, 95))
    return {"p50_ms": p50, "p95_ms": p95, "ways": rows}


def run(
    folder: Path, points: int, rounds: int, *, backend: str = "torch", precision: str | None = None
) -> dict[str, Any]:
    """All of it, as plain data."""
    documents = list(corpus(folder))
    queries = [query.text for query in read_beir(folder)[0]]
    with tempfile.TemporaryDirectory() as place, opened(Path(place), backend, precision) as collection:
        fill(collection, documents, points)
        encoder = collection.handle.slot("dense").encoder
        times, single = measure(collection, queries, rounds)
        measured = summary(times, single, len(queries))
        facts = {"corpus": folder.name, "points": points, "queries": len(queries), "rounds": rounds}
        kept = figures(times, single, len(queries), encoder.numerics)
        return {**facts, "encoder": encoder.numerics, "threads": cores(), **measured, "figures": kept}


def corpus(folder: Path) -> list[Document]:
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Document.from_mapping({"title": "", **row}) for row in map(json.loads, lines) if row["text"].strip()]


def show(found: Mapping[str, Any]) -> None:
    print(f"{found['corpus']}, {found['points']:,} points, {found['queries']} queries, {found['rounds']} rounds")
    print(f"{found['encoder']}, {found['threads']} cores")
    print(f"one caller, text to hits: median {found['p50_ms']:.2f} ms, 95% {found['p95_ms']:.2f} ms")
    print("\n| callers | queries/s | ratio to one caller | least | most | processor, ms |\n|---|---|---|---|---|---|")
    for name, row in found["ways"].items():
        spread = f"{row['ratio']:.2f} | {row['least_ratio']:.2f} | {row['most_ratio']:.2f}"
        print(f"| {name} | {row['queries_per_second']:.0f} | {spread} | {row['processor_ms']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="a collection below $DIPTYCH_DATA, or a path")
    parser.add_argument("--points", type=int, default=1400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", help="with openvino the fastest here unless given")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.precision = given.precision or (fastest().split()[-1] if given.backend == "openvino" else None)
    torch.set_num_threads(cores())
    found = run(folder_of(given.corpus), given.points, given.rounds, backend=given.backend, precision=given.precision)
    show(found)
    notes = [
        f"{found['queries']} queries of {found['corpus']}, {found['points']:,} points, {given.rounds} rounds, Edge."
    ]
    Result("Concurrent queries", found["figures"], notes, {"diptych": versions()}, cores()).write(given.json)


if __name__ == "__main__":
    main()
