"""What EdgeClient costs over bare qdrant_edge: searches and upserts, interleaved in one run, as ratios.

    python tests/benchmarks/bench_edge.py --points 100000 --dimension 384 --queries 2000

Searches run on the same optimised shard (the bare one is a copy of the client's folder), one query here, one there.
Upserts alternate pieces of 1,000 points. Printed: medians, quartiles of the paired ratios, and the ratio of medians.
`--json FILE` keeps the ratios by round, each the ratio of the medians of a fifth of the calls.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from diptych_edge import EdgeClient
from figures import Figure, Result
from machine import versions
from rounds import in_rounds

PIECE = 1000
NAME = "bench"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def report(
    what: str, bare: Sequence[float], ours: Sequence[float], unit: str, scale: Callable[[float], float]
) -> list[float]:
    """Print medians and ratios; the ratios of the medians, ours over bare, of each fifth of the calls."""
    paired = np.percentile(np.asarray(ours) / np.asarray(bare), [25, 50, 75])
    low, high = float(np.median(bare)), float(np.median(ours))
    print(
        f"{what}: bare {scale(low):,.3f} {unit}, EdgeClient {scale(high):,.3f} {unit}, time ratio {high / low:.3f};"
        f" paired ratios median {paired[1]:.3f} [{paired[0]:.3f}, {paired[2]:.3f}], n={len(bare)}"
    )
    return in_rounds(bare, ours)


def bare_points(vectors: Any, first: int) -> Any:
    points = [edge.Point(first + i, {"d": row}, {"i": first + i}) for i, row in enumerate(vectors)]
    return edge.UpdateOperation.upsert_points(points)


def our_points(vectors: Any, first: int) -> list[models.PointStruct]:
    make = models.PointStruct.model_construct
    return [make(id=first + i, vector={"d": row}, payload={"i": first + i}) for i, row in enumerate(vectors)]


def fill(client: EdgeClient, folder: Path, vectors: Any) -> tuple[list[float], list[float]]:
    """Write all vectors to the client and to a bare shard, piece by piece in turn; seconds a piece, bare and ours."""
    size = vectors.shape[1]
    client.create_collection(NAME, {"d": models.VectorParams(size=size, distance=models.Distance.COSINE)})
    params = {"d": edge.EdgeVectorParams(size=size, distance=edge.Distance.Cosine)}
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=params))
    bare, ours = [], []
    for first in range(0, len(vectors), PIECE):
        piece = vectors[first : first + PIECE]
        bare.append(timed(lambda p=piece, f=first: shard.update(bare_points(p, f)))[0])  # type: ignore[misc]
        ours.append(timed(lambda p=piece, f=first: client.upsert(NAME, our_points(p, f)))[0])  # type: ignore[misc]
    shard.close()
    return bare, ours


def search(client: EdgeClient, shard: Any, queries: Any) -> tuple[list[float], list[float]]:
    """Ask both each query in turn; seconds a query. Their answers must be the same."""
    bare, ours = [], []
    for number, query in enumerate(queries):
        asks = (
            lambda q=query: shard.query(
                edge.QueryRequest(limit=10, query=edge.Query.Nearest(q, using="d"), with_payload=True)
            ),
            lambda q=query: client.query_points(NAME, q, using="d", limit=10).points,
        )
        found = {turn: timed(asks[turn]) for turn in ((0, 1) if number % 2 else (1, 0))}
        assert [p.id for p in found[0][1]] == [p.id for p in found[1][1]]
        bare.append(found[0][0])
        ours.append(found[1][0])
    return bare, ours


def search_in_batches(client: EdgeClient, shard: Any, queries: Any, size: int = 32) -> tuple[list[float], list[float]]:
    """The same, `size` queries at once."""
    bare, ours = [], []
    make = models.QueryRequest.model_construct
    for first in range(0, len(queries) - size + 1, size):
        some = queries[first : first + size]
        batch = [edge.QueryRequest(limit=10, query=edge.Query.Nearest(q, using="d"), with_payload=True) for q in some]
        asked = [make(query=q, using="d", limit=10, with_payload=True) for q in some]
        bare.append(timed(lambda b=batch: shard.query_batch(edge.QueryBatchRequest(b)))[0])  # type: ignore[misc]
        ours.append(timed(lambda a=asked: client.query_batch_points(NAME, a))[0])  # type: ignore[misc]
    return bare, ours


def optimize_under_load(client: EdgeClient, queries: Any) -> None:
    """Optimise while queries are asked and single points are written again; print how long they took."""
    waits: dict[str, list[float]] = {"query": [], "write": []}
    future = client.optimize(NAME, wait=False)
    start, number = time.perf_counter(), 0
    while not future.done():
        query = queries[number % len(queries)]
        waits["query"].append(timed(lambda q=query: client.query_points(NAME, q, using="d", limit=10))[0])  # type: ignore[misc]
        if number % 10 == 0:
            waits["write"].append(timed(lambda q=query, i=number % 200: client.upsert(NAME, our_points([q], i)))[0])  # type: ignore[misc]
        number += 1
    took, built = time.perf_counter() - start, future.result()
    indexed = client.get_collection(NAME).indexed_vectors_count
    print(f"optimize aside: {took:.1f} s, built {built}, indexed {indexed:,}")
    for what, seconds in waits.items():
        middle, late, worst = (1000 * float(np.percentile(seconds, p)) for p in (50, 99, 100))
        print(f"  meanwhile {len(seconds):,} x {what}: median {middle:.2f} ms, 99% {late:.2f} ms, worst {worst:.2f} ms")


def run(points: int, dimension: int, queries: int) -> dict[str, list[float]]:
    """All of it; the time ratios by name and round."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, dimension))
    vectors = (centres[rng.integers(0, 200, points)] + 0.7 * rng.normal(size=(points, dimension))).astype(np.float32)
    asked = (centres[rng.integers(0, 200, queries)] + 0.7 * rng.normal(size=(queries, dimension))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, EdgeClient(Path(folder) / "ours") as client:
        bare, ours = fill(client, Path(folder) / "bare", vectors)
        ratios = {"upsert": report("upsert", bare, ours, "points/s", lambda seconds: PIECE / seconds)}
        optimize_under_load(client, asked)
        client.close()
        copy = shutil.copytree(next((client.path / "collections").glob("*/shard-*")), Path(folder) / "copy")
        with EdgeClient(client.path) as again:
            shard = edge.EdgeShard.load(str(copy))
            search(again, shard, asked[:50])
            ratios["search"] = report("search", *search(again, shard, asked), "ms", lambda seconds: seconds * 1000)
            batches = search_in_batches(again, shard, asked)
            ratios["batch"] = report("batches of 32", *batches, "ms", lambda seconds: seconds * 1000)
            shard.close()
    return ratios


def result(found: dict[str, list[float]], points: int, dimension: int) -> Result:
    figures = [
        Figure(f"time of {what}, ratio to the bare engine's", "EdgeClient", "", values, "qdrant_edge")
        for what, values in found.items()
    ]
    notes = [f"{points:,} points of {dimension} dimensions, clustered; less is better."]
    return Result("What EdgeClient costs over the bare engine", figures, notes, {"diptych": versions()})


def test_the_benchmark_runs_and_both_sides_answer_alike() -> None:
    assert set(run(points=3000, dimension=16, queries=64)) == {"upsert", "search", "batch"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = run(options.points, options.dimension, options.queries)
    result(found, options.points, options.dimension).write(options.json)
