"""What populate costs besides encoding, and how that, search and memory grow with the number of points.

    python tests/benchmarks/bench_growth.py --sizes 1000,10000,100000 --rounds 3
    python tests/benchmarks/bench_growth.py --sizes 1000,10000,100000,1000000 --quantization     half an hour

Made-up documents of 12 words and 384 numbers each into Edge, by an encoder that reads its vectors from a file that was
drawn before; beside it the same points straight into qdrant_edge. A process for each size and side, so peak memory is
its own. The cost of a point is the wall time of populate without the encoder's own seconds and without building the
index, which is reported for itself (it is another process; its memory too). Then queries, after a round of them that
does not count: the median time, and recall@10 against a full scan, by Qdrant's default width of the graph search and by
wider ones (`ef`). Quantized is with scalar quantization and a graph of 32 links a point instead of 16, found among 200
neighbours instead of 100, which the shorter vectors pay for; twice as many points are taken then, and their original
vectors decide.

The vectors are clustered as embeddings are: 1,000 centres, around them a spread in 32 directions that all share, and a
little noise. Of uniform noise in 384 dimensions all points are about equally far away; recall on it says nothing.

`--json FILE` keeps the figures; their form: figures.py.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client import models

from diptych.metadata.payloads import hashed_point
from diptych.populate import populate
from diptych_edge import EdgeClient
from drawn_corpus import BLOCK, TABLE, WIDTH, WORDS, Documents, Drawn, block, drawn, opened, vectors, write_table
from figures import Figure, Result
from machine import versions

PIECE = 512
WIDTHS = (None, 256, 512, 1024)  # of the graph search; Qdrant's own is 100
QUERIES, SCANNED = 500, 200  # asked in all, and those among them that are compared with a full scan
ORIGINALS = models.QuantizationSearchParams(rescore=True, oversampling=2.0)  # decide among twice as many
QUANTIZED = {"quantization": {"kind": "scalar", "always_ram": True}, "hnsw": {"m": 32, "ef_construct": 200}}
MIB = 1024 * 1024
COST, TIME = "microseconds a point", f"milliseconds a query, ef {WIDTHS[-1]}"
BOUNDS = {f"recall@10, ef {WIDTHS[-1]}": ">= 0.98"}


class Timed(EdgeClient):
    """An embedded store that knows how long its index took."""

    building = 0.0

    def optimize(self, *args: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return super().optimize(*args, **options)
        finally:
            self.building += time.perf_counter() - begin


def filled(size: int, quantized: bool) -> dict[str, float]:
    """Populate, then search."""
    with tempfile.TemporaryDirectory() as folder, Timed(folder) as client:
        before, worked = peak(), time.process_time()
        report = populate(opened(client, "drawn", QUANTIZED if quantized else {}), Documents(size))
        worked = time.process_time() - worked
        if report.new != size:
            raise SystemExit(f"not what was expected: {report}")
        memory, building = peak(), peak(resource.RUSAGE_CHILDREN)
        return {
            "microseconds a point": (report.seconds - client.building - Drawn.seconds) / size * 1e6,
            "microseconds of processor a point": (worked - Drawn.worked) / size * 1e6,
            "seconds of building the index": client.building,
            "MiB at the peak": memory,
            "MiB before": before,
            "MiB at the peak of building": building if client.building > 1 else 0.0,
            "MiB on disk": sum(file.stat().st_blocks * 512 for file in Path(folder).rglob("*")) / MIB,
            **searched(client, size, quantized),
        }


def searched(client: EdgeClient, size: int, quantized: bool) -> dict[str, float]:
    """The median time of a query, and recall@10, by each width of the graph search."""
    queries = drawn(1, QUERIES)
    best = scanned(queries[:SCANNED], size).tolist()
    found: dict[str, float] = {}
    for ef in WIDTHS:
        name = f", ef {ef}" if ef else ""
        took, ids = asked(
            client, queries, models.SearchParams(hnsw_ef=ef, quantization=ORIGINALS if quantized else None)
        )
        shared = [len(own & set(row)) / len(row) for own, row in zip(ids, best, strict=False)]
        found |= {f"milliseconds a query{name}": 1000 * median(took), f"recall@10{name}": float(np.mean(shared))}
    return found


def asked(client: EdgeClient, queries: Any, params: models.SearchParams) -> tuple[list[float], list[set[int]]]:
    """Seconds and the numbers of the ten documents, of each query; all are asked once before that counts."""
    took, found = [], []
    for query in [*queries, *queries]:
        begin = time.perf_counter()
        answer = client.query_points(
            "c", query, using="dense.1", limit=10, with_payload=["_diptych.id"], search_params=params
        )
        took.append(time.perf_counter() - begin)
        found.append({int((point.payload or {})["_diptych"]["id"]) for point in answer.points})
    return took[len(queries) :], found[len(queries) :]


def scanned(queries: Any, size: int) -> Any:
    """The numbers of the ten nearest documents by a full scan [queries, 10]."""
    numbers = scores = np.empty((len(queries), 0))
    for start in range(0, size, BLOCK):
        rows = block(start // BLOCK)[: size - start]
        own = queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        scores = np.hstack([scores, own])
        numbers = np.hstack([numbers, np.broadcast_to(np.arange(start, start + len(rows)), own.shape)])
        best = np.argsort(-scores, axis=1)[:, :10]
        scores, numbers = np.take_along_axis(scores, best, 1), np.take_along_axis(numbers, best, 1)
    return numbers


def bare(size: int, quantized: bool) -> dict[str, float]:
    """The same points, ids too, straight into qdrant_edge; making vectors and ids is not counted."""
    params = edge.EdgeVectorParams(size=WIDTH, distance=edge.Distance.Cosine)
    with tempfile.TemporaryDirectory() as folder:
        shard = edge.EdgeShard.create(folder, edge.EdgeConfig(vectors={"dense.1": params}))
        begin, own = time.perf_counter(), 0.0
        worked = time.process_time()
        for first in range(0, size, PIECE):
            drawing, drawn_by = time.perf_counter(), time.thread_time()
            numbers = range(first, min(first + PIECE, size))
            rows = [(hashed_point(str(n)), n, row) for n, row in zip(numbers, vectors(numbers), strict=True)]
            own += time.perf_counter() - drawing
            worked += time.thread_time() - drawn_by
            points = [edge.Point(*point(*row)) for row in rows]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()
        seconds, worked = time.perf_counter() - begin - own, time.process_time() - worked
        shard.close()
    return {"microseconds a point": seconds / size * 1e6, "microseconds of processor a point": worked / size * 1e6}


def point(identifier: str, number: int, row: Any) -> tuple[str, Any, Any]:
    payload = {"text": f"document {number:010d} {WORDS}", "_diptych": {"id": str(number), "hash": "0" * 32}}
    return identifier, {"dense.1": row}, payload


def peak(whose: int = resource.RUSAGE_SELF) -> float:
    """The most memory this process, or one of its children, has had resident so far, MiB."""
    return resource.getrusage(whose).ru_maxrss / 1024


SIDES: dict[str, Callable[[int, bool], dict[str, float]]] = {"populate": filled, "bare": bare}


def child(side: str, size: int, quantized: bool) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--child", side, "--sizes", str(size), *["--quantization"] * quantized]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    print(f"{side}{', quantized' * quantized}, {size:,}:", {name: round(n, 3) for name, n in found.items()}, flush=True)
    return found


def growth(sizes: Sequence[int], rounds: int, quantized: bool) -> list[Figure]:
    """Figures of each size; those that take long are measured once."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(TABLE, str(Path(folder) / "vectors"))
        write_table(Path(folder) / "vectors", max(sizes))
        return _measured(sizes, rounds, quantized)


def _measured(sizes: Sequence[int], rounds: int, quantized: bool) -> list[Figure]:
    figures, costs, times = [], dict[int, float](), dict[int, float]()
    for size in sizes:
        ways: dict[str, list[dict[str, float]]] = {"populate": [], "bare": [], "quantized": []}
        for _ in range(rounds if size <= 20_000 else 1):
            ways["bare"].append(child("bare", size, False))
            ways["populate"].append(child("populate", size, False))
        if quantized:
            ways["quantized"].append(child("populate", size, True))
        cost, low = ([f[COST] for f in ways[way]] for way in ("populate", "bare"))
        over = [a / b for a, b in zip(cost, low, strict=True)]
        figures.append(Figure("cost of a point", "populate", "ratio", over, "bare qdrant_edge", at=size))
        costs[size], times[size] = median(cost), median(f[TIME] for f in ways["populate"])
        figures += [
            *_grown(size, costs, "cost of a point", 10_000, 1.15),
            *_grown(size, times, f"query, ef {WIDTHS[-1]}", 100_000, 3),
        ]
        for way, found in ways.items():
            figures += [
                Figure(name, way, unit(name), [f[name] for f in found], wanted=BOUNDS.get(name, ""), at=size)
                for name in (found or [{}])[0]
            ]
    return figures


def unit(name: str) -> str:
    """The unit that a value's name begins with; recall has none."""
    return "" if name.startswith("recall") else name.split()[0]


def _grown(size: int, values: dict[int, float], name: str, start: int, most: float) -> Iterator[Figure]:
    """How much more it is than at the size to which it is compared."""
    if start in values and size > start:
        yield Figure(
            name, "populate", "ratio", [values[size] / values[start]], f"{start:,} points", f"<= {most}", at=size
        )


def test_a_populate_is_measured_and_found_again() -> None:
    found = {figure.name: figure.median for figure in growth([2000], 1, False) if figure.way == "populate"}
    assert found["recall@10"] == 1.0
    assert found["MiB on disk"] > 2000 * WIDTH * 4 / MIB


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="points, with commas")
    parser.add_argument("--rounds", type=int, default=3, help="of sizes up to 20,000")
    parser.add_argument("--quantization", action="store_true", help="each size with scalar quantization, too")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.sizes.split(",") if size)
    if options.child:
        print(json.dumps(SIDES[options.child](sizes[0], options.quantization)))
        return
    notes = [paragraph.replace("\n", " ") for paragraph in __doc__.split("\n\n")[2:4]]
    figures = growth(sizes, options.rounds, options.quantization)
    Result("How cost grows", figures, notes, {"diptych": versions()}).write(options.json)


if __name__ == "__main__":
    main()
