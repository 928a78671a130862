"""What `diptych.search` costs over bare qdrant_edge: the same dense queries in turn on copies of one shard, as ratios.

    python tests/benchmarks/bench_search_overhead.py --points 100000 --dimension 384 --queries 2000

Both sides do the same job: from text to vector by an encoder that only looks rows up, without remembering any, and out
come each hit's id, score and payload. So the ratio is what the host costs: checks, requests through EdgeClient, answers
as `Hit` with `Document`. Printed: medians, quartiles of the paired ratios, and the ratio of medians, for one query a
call and for batches.
`--json FILE` keeps the ratios by round, each the ratio of the medians of a fifth of the queries.
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

from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.metadata.payloads import NATIVE
from diptych.protocols import Similarity
from diptych.registry import Registry
from diptych.search import search
from diptych.specs import AdapterSpec
from diptych.types import Document, Floats
from diptych_edge import EdgeClient
from figures import Figure, Result
from machine import versions
from rounds import in_rounds

NAME, VECTOR, LIMIT = "bench", "dense.1", 10


class LookUp:
    """A dense encoder that is given the row of its table as text."""

    similarity: Similarity = "cosine"
    table: Floats = np.zeros((1, 1), np.float32)

    def __init__(self) -> None:
        self.dimension = self.table.shape[1]

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return self.table[[int(text) if text.isdigit() else 0 for text in inputs]]

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return self.encode_query(inputs)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="look-up", kind="dense", factory=f"{__name__}:LookUp", summary="rows of a table")]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def opened(client: EdgeClient) -> CollectionHandle:
    slots = {"dense": {"adapter": "look-up"}}
    config = Config.model_validate({"collection": NAME, "slots": slots, "search": {"remember": 0}})
    return CollectionHandle(client, NAME, config, Registry(Plugin(), installed=False))


def fill(client: EdgeClient, vectors: Floats) -> None:
    """Points as populate writes them."""
    opened(client).create({})
    make = models.PointStruct.model_construct
    for first in range(0, len(vectors), 1000):
        piece = vectors[first : first + 1000]
        documents = [
            Document(f"d{first + i}", f"the text of {first + i}", metadata={"i": i}) for i in range(len(piece))
        ]
        points = [
            make(id=first + i, vector={VECTOR: row}, payload=NATIVE.write(document, "0" * 32))
            for i, (row, document) in enumerate(zip(piece, documents, strict=True))
        ]
        client.upsert(NAME, points)


def bare_request(query: Any) -> Any:
    return edge.QueryRequest(limit=LIMIT, query=edge.Query.Nearest(query, using=VECTOR), with_payload=True)


def measure(handle: CollectionHandle, shard: Any, queries: Floats, size: int) -> tuple[list[float], list[float]]:
    """Seconds of each call with `size` queries, bare and ours, in turn. Their answers must be the same."""
    bare, ours, encoder = [], [], LookUp()
    for number, first in enumerate(range(0, len(queries) - size + 1, size)):
        texts = [str(n) for n in range(first, first + size)]
        asks: list[Callable[[], Any]] = [
            lambda texts=texts: ask_bare(shard, encoder, texts),  # type: ignore[misc]
            lambda texts=texts: search(handle, texts, limit=LIMIT),  # type: ignore[misc]
        ]
        found = {turn: timed(asks[turn]) for turn in ((0, 1) if number % 2 else (1, 0))}
        ids = [[f"d{identifier}" for identifier, _, _ in points] for points in found[0][1]]
        assert ids == [[hit.id for hit in hits] for hits in found[1][1]]
        bare.append(found[0][0])
        ours.append(found[1][0])
    return bare, ours


def ask_bare(shard: Any, encoder: LookUp, texts: Sequence[str]) -> Any:
    vectors = encoder.encode_query(texts)
    if len(texts) == 1:
        found = [shard.query(bare_request(vectors[0]))]
    else:
        found = shard.query_batch(edge.QueryBatchRequest([bare_request(vector) for vector in vectors]))
    return [[(point.id, point.score, point.payload) for point in points] for points in found]


def report(what: str, bare: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Print medians and ratios; the ratios of the medians, ours over bare, of each fifth of the calls."""
    paired = np.percentile(np.asarray(ours) / np.asarray(bare), [25, 50, 75])
    low, high = float(np.median(bare)), float(np.median(ours))
    print(
        f"{what}: bare {1000 * low:.3f} ms, diptych.search {1000 * high:.3f} ms, ratio {high / low:.3f};"
        f" paired ratios median {paired[1]:.3f} [{paired[0]:.3f}, {paired[2]:.3f}], n={len(bare)}"
    )
    return in_rounds(bare, ours)


def run(points: int, dimension: int, queries: int) -> dict[str, list[float]]:
    """All of it; the time ratios by name and round."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, dimension))
    vectors = (centres[rng.integers(0, 200, points)] + 0.7 * rng.normal(size=(points, dimension))).astype(np.float32)
    asked = (centres[rng.integers(0, 200, queries)] + 0.7 * rng.normal(size=(queries, dimension))).astype(np.float32)
    LookUp.table = asked
    with tempfile.TemporaryDirectory() as folder:
        with EdgeClient(Path(folder) / "ours") as client:
            fill(client, vectors)
            took, _ = timed(lambda: client.optimize(NAME))
            print(f"{points:,} x {dimension}; optimize aside: {took:.1f} s")
        copy = shutil.copytree(next((client.path / "collections").glob("*/shard-*")), Path(folder) / "copy")
        with EdgeClient(client.path) as client:
            handle, shard = opened(client), edge.EdgeShard.load(str(copy))
            measure(handle, shard, asked[:50], 1)
            ratios = {f"{n} a call": report(f"{n} a call", *measure(handle, shard, asked, n)) for n in (1, 32)}
            shard.close()
    return ratios


def result(found: dict[str, list[float]], points: int, dimension: int) -> Result:
    figures = [
        Figure(
            f"time of a search, {what}, ratio to the bare engine's",
            "diptych.search",
            "",
            values,
            "qdrant_edge",
            "<= 1.25",
        )
        for what, values in found.items()
    ]
    notes = [f"{points:,} points of {dimension} dimensions, clustered; less is better; the encoder looks rows up."]
    return Result("What diptych costs over the bare engine", figures, notes, {"diptych": versions()})


def test_the_benchmark_runs_and_both_sides_answer_alike() -> None:
    assert set(run(points=2000, dimension=16, queries=64)) == {"1 a call", "32 a call"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = run(options.points, options.dimension, options.queries)
    result(found, options.points, options.dimension).write(options.json)
