"""Searches of a slot with passages on Qdrant Edge, beside the engine's own call with the same vectors, in one run.

    python tests/benchmarks/bench_passages.py --documents 14300

Documents of 48 sentences, seven passages each; vectors of 384 numbers are drawn around 2,000 centres, by text. Prints
the time of a populate, and medians of 180 searches for ten hits: the engine alone, a search without passages, the first
search that shows a hit's passages, and the same search again, when their places are known.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from diptych import AdapterSpec, Collection, Document, Registry, hookimpl
from diptych.config.models import Config
from diptych.types import Floats

DIMENSION, CENTRES, QUERIES, WARM_UP = 384, 2000, 200, 20
WORDS = [f"w{n}" for n in range(3000)]


class DrawnVectors:
    """A dense encoder without a model: a text's hash chooses a centre and a point near it."""

    dimension, similarity = DIMENSION, "cosine"

    def __init__(self) -> None:
        self._centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION))

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, 384]`."""
        return np.stack([self._vector(text) for text in inputs])

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, 384]`."""
        return self.encode_query(inputs)

    def _vector(self, text: str) -> Floats:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
        vector = self._centres[seed % CENTRES] + 0.8 * np.random.default_rng(seed).normal(size=DIMENSION)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


class Plugin:
    """Registers the encoder."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """The adapter `drawn`."""
        return [AdapterSpec(name="drawn", kind="dense", factory="drawn_vectors:DrawnVectors", summary="drawn vectors")]


def document(number: int) -> Document:
    """48 sentences of nine words."""
    chance = np.random.default_rng(number)
    sentences = [" ".join(WORDS[word] for word in chance.integers(0, 3000, 9)).capitalize() for _ in range(48)]
    return Document(str(number), ". ".join(sentences) + ".")


def milliseconds(search: Callable[[int], object]) -> float:
    """The median over the queries after those that warm up."""
    times = []
    for query in range(QUERIES):
        begin = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - begin)
    return 1000 * median(times[WARM_UP:])


def main() -> None:
    """Populate and search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    documents = parser.parse_args().documents
    sys.modules["drawn_vectors"] = made = ModuleType("drawn_vectors")
    made.DrawnVectors = DrawnVectors  # type: ignore[attr-defined]
    slots = {"dense": {"adapter": "drawn", "passages": {"tokens": 120, "overlap": 0}}}
    chance = np.random.default_rng(1)
    queries = [" ".join(WORDS[word] for word in chance.integers(0, 3000, 6)) for _ in range(QUERIES)]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        raw = {"store": f"edge:{folder}/store", "collection": "c", "slots": slots, "cache": {"enabled": False}}
        config, registry = Config.model_validate(raw), Registry(Plugin(), installed=False)
        with Collection.open(config, registry=registry) as collection:
            begin = time.perf_counter()
            collection.populate(map(document, range(documents)))
            print(f"populate: {time.perf_counter() - begin:.1f} s")
        with Collection.open(config, registry=registry) as collection:  # one that has not cut these documents itself
            measure(collection, queries)


def measure(collection: Collection, queries: Sequence[str]) -> None:
    """Print the medians and their ratios to the engine's."""
    slot: Any = collection.handle.slots["dense"]
    vectors = [vector.tolist() for vector in slot.encode("query", queries)]
    places = slot.encoder.places([document(number).text for number in range(50)])
    print(f"passages a document: {np.mean([len(own) for own in places]):.1f}")

    def bare(query: int) -> object:
        return collection.client.query_points("c", query=vectors[query], using=slot.vector, limit=10, with_payload=True)

    def search(passages: int) -> Callable[[int], object]:
        return lambda query: collection.search(queries[query], limit=10, passages=passages)

    ways = {"engine": bare, "without passages": search(0), "with three": search(3), "with three, again": search(3)}
    milliseconds(bare)
    milliseconds(search(0))  # encodes each query, which is then remembered
    times = {name: milliseconds(way) for name, way in ways.items()}
    for name, own in times.items():
        print(f"{name}: p50 {own:.2f} ms, {own / times['engine']:.2f} of the engine's")


if __name__ == "__main__":
    main()
