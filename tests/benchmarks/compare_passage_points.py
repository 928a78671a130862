"""Passages as a multi-vector of their document, or as points of a second collection: time and recall on Qdrant Edge.

    python tests/benchmarks/compare_passage_points.py --documents 16700 --passages 6

Sentences of SciFact, encoded with all-MiniLM-L6-v2, are the passages. Documents repeat them, moved at random: a part of
it is common to a document's passages, and the cosine with their origin is about .75. Queries are SciFact's.

- multi-vector: MaxSim with a graph over documents, as a slot with `passages` is stored;
- int8: the same with scalar quantization; the originals score twice as many candidates as are wanted;
- points: a graph over passages gives candidates, whose multi-vectors, which have no graph, are scored exactly.

Prints medians of CPU time for ten hits with payload, which depend less than a clock's on what else runs, and
recall of the ten best of an exact search.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from qdrant_client import models

from corpora import folder_of, read_documents
from diptych.evaluate import read_beir
from diptych.types import Floats
from diptych_edge import EdgeClient
from machine import facts
from manual_pages.ways import Vectors

DIMENSION, QUERIES, WARM_UP, SENTENCES, HITS = 384, 300, 20, 9000, 10
COMMON, OWN, ASKED = 0.55, 0.65, 0.3  # lengths of the moves: of a document, of each of its passages, of a query
INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
)


def sentences() -> list[list[str]]:
    """The sentences of abstracts that have six or more, drawn with a fixed seed."""
    documents = [document.text for document in read_documents(folder_of("scifact")).values()]
    drawn: list[list[str]] = []
    for n in np.random.default_rng(0).permutation(len(documents)):
        own = [one[:300] for one in re.split(r"(?<=[.!?])\s+", documents[n]) if len(one) > 30][:20]
        drawn += [own] if len(own) >= 6 else []
        if sum(map(len, drawn)) >= SENTENCES:
            break
    return drawn


def moved(vectors: Floats, length: float, chance: np.random.Generator, *, together: bool = False) -> Floats:
    """The vectors, moved by about this length, each its own way or all the same one."""
    move = chance.normal(size=vectors.shape[together:]) * length / DIMENSION**0.5
    return np.asarray(vectors + move, np.float32)


def unit(vectors: Floats) -> Floats:
    """The vectors at length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def documents_of(origins: Sequence[Floats], count: int, passages: int) -> Floats:
    """Vectors `[count, passages, dimension]`."""
    made = []
    for number in range(count):
        origin, chance = origins[number % len(origins)], np.random.default_rng(number)
        some = origin[chance.permutation(np.arange(passages) % len(origin))]
        made.append(moved(moved(some, COMMON, chance, together=True), OWN, chance))
    return unit(np.stack(made))


class Stored:
    """The documents in three collections, and the ways to search them."""

    def __init__(self, client: EdgeClient, documents: Floats) -> None:
        self._client, self._passages = client, documents.shape[1]
        maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        whole: dict[str, Any] = {"size": DIMENSION, "distance": models.Distance.COSINE, "multivector_config": maxsim}
        no_graph = models.HnswConfigDiff(m=0)
        self._fill("multi", models.VectorParams(**whole), documents)
        self._fill("int8", models.VectorParams(**whole, quantization_config=INT8), documents)
        self._fill("plain", models.VectorParams(**whole, hnsw_config=no_graph, on_disk=True), documents)
        points = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
        self._fill("points", points, documents.reshape(-1, DIMENSION))

    def _fill(self, name: str, params: models.VectorParams, vectors: Floats) -> None:
        self._client.create_collection(name, vectors_config={"d": params})
        payload = {} if name == "points" else {"text": "word " * 30 * self._passages}
        for begin in range(0, len(vectors), 1000):
            some = enumerate(vectors[begin : begin + 1000].tolist(), begin)
            self._client.upsert(name, [models.PointStruct(id=n, vector={"d": own}, payload=payload) for n, own in some])
        begun = time.perf_counter()
        self._client.optimize(name)
        print(f"{name}: {time.perf_counter() - begun:.0f} s of indexing", flush=True)

    def _found(self, name: str, query: Any, limit: int, ef: int, **options: Any) -> list[int]:
        params = models.SearchParams(hnsw_ef=ef, quantization=options.pop("quantization", None))
        found = self._client.query_points(name, query, using="d", limit=limit, search_params=params, **options)
        return [int(point.id) for point in found.points]

    def multi(self, query: list[float], ef: int) -> list[int]:
        """By the graph of documents."""
        return self._found("multi", [query], HITS, ef)

    def int8(self, query: list[float], ef: int) -> list[int]:
        """By the graph of documents and small copies."""
        rescored = models.QuantizationSearchParams(rescore=True, oversampling=2.0)
        return self._found("int8", [query], HITS, ef, quantization=rescored)

    def points(self, query: list[float], ef: int, reads: int) -> list[int]:
        """By the graph of passages, then by the multi-vectors of the documents that the nearest ones name."""
        nearest = self._found("points", query, reads, ef, with_payload=False)
        candidates = list(dict.fromkeys(point // self._passages for point in nearest))[: 2 * HITS]
        within = models.Filter(must=[models.HasIdCondition(has_id=candidates)])
        return self._found("plain", [query], HITS, ef, query_filter=within)


def measure(search: Callable[[list[float]], list[int]], queries: Floats, best: Sequence[set[int]]) -> str:
    """Median milliseconds of CPU time, and recall."""
    times, right = [], 0
    for query, wanted in zip(queries.tolist(), best, strict=True):
        begun = time.process_time()
        found = search(query)
        times.append(time.process_time() - begun)
        right += len(wanted & set(found))
    return f"{1000 * median(times[WARM_UP:]):.2f} ms, recall {right / HITS / len(best):.3f}"


def main() -> None:
    """Make the collections and search them, each way twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--passages", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path("build/passages"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    texts, vectors = sentences(), Vectors(options.cache)
    encoded = np.asarray(vectors.of_documents([one for own in texts for one in own]), np.float32)
    origins = np.split(encoded, np.cumsum([len(own) for own in texts])[:-1])
    asked, _ = read_beir(folder_of("scifact"))
    queries = np.asarray(vectors.encoder.encode_query([query.text for query in asked[:QUERIES]]), np.float32)
    queries = unit(moved(queries, ASKED, np.random.default_rng(1)))
    documents = documents_of(origins, options.documents, options.passages)
    exact = (queries @ documents.reshape(-1, DIMENSION).T).reshape(len(queries), len(documents), -1).max(axis=2)
    best = [set(row.tolist()) for row in np.argsort(-exact, axis=1)[:, :HITS]]
    print(facts()["cpu"])
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, closing(EdgeClient(folder)) as client:
        stored = Stored(client, documents)
        ways: dict[str, Callable[[list[float]], list[int]]] = {}
        for ef in (100, 200):
            ways[f"multi-vector, ef {ef}"] = partial(stored.multi, ef=ef)
            ways[f"int8, ef {ef}"] = partial(stored.int8, ef=ef)
            ways[f"points, ef {ef}, 40 read"] = partial(stored.points, ef=ef, reads=40)
            ways[f"points, ef {ef}, 80 read"] = partial(stored.points, ef=ef, reads=80)
        for _ in range(2):
            for name, search in ways.items():
                print(f"{name}: {measure(search, queries, best)}", flush=True)


if __name__ == "__main__":
    main()
