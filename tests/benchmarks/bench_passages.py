"""Searches of a slot with passages on Qdrant Edge, beside the engine's own call with the same vectors, in one run.

    python tests/benchmarks/bench_passages.py --documents 14300 [--int8] [--folder build/passages]

Documents of 48 sentences, seven passages each; vectors of 384 numbers are drawn around 2,000 centres, by text. Prints
the time of a populate, and medians of 180 searches for ten hits: the engine alone, a search without passages, the first
search that shows a hit's passages, and the same search again, when its documents have been shown. The clock's, and
those of CPU time, which depend less on what else runs. `--int8` searches small copies of the vectors, and rescores.
`--folder` keeps the collection there for later runs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from diptych import AdapterSpec, Collection, Document, Registry, hookimpl
from diptych.config.models import Config, SearchParams
from diptych.search.pipeline import search_params
from diptych.types import Floats

DIMENSION, CENTRES, QUERIES, WARM_UP, BEHIND = 384, 2000, 200, 20, 40
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


def milliseconds(ways: Mapping[str, Callable[[int], object]]) -> dict[str, tuple[float, float]]:
    """Each way's medians by the clock and of CPU time, over the queries after those that warm up.

    The ways take turns, so that what else runs slows all of them. Each is some queries behind the one before it: right
    after another one, a search would find its part of the index in the processor's cache.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(QUERIES + BEHIND * (len(ways) - 1)):
        for place, (name, search) in enumerate(ways.items()):
            if 0 <= (query := turn - BEHIND * place) < QUERIES:
                begin, cpu = time.perf_counter(), time.process_time()
                search(query)
                times[name].append((time.perf_counter() - begin, time.process_time() - cpu))
    return {name: tuple((1000 * np.median(own[WARM_UP:], axis=0)).tolist()) for name, own in times.items()}


def main() -> None:
    """Populate and search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    sys.modules["drawn_vectors"] = made = ModuleType("drawn_vectors")
    made.DrawnVectors = DrawnVectors  # type: ignore[attr-defined]
    storage = (
        {"storage": {"quantization": {"kind": "scalar", "quantile": 0.99, "always_ram": True}}} if options.int8 else {}
    )
    slots = {"dense": {"adapter": "drawn", "passages": {"tokens": 120, "overlap": 0}, **storage}}
    searched = {"params": {"rescore": True, "oversampling": 2}} if options.int8 else {}
    chance = np.random.default_rng(1)
    queries = [" ".join(WORDS[word] for word in chance.integers(0, 3000, 6)) for _ in range(QUERIES)]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as own:
        folder = options.folder or Path(own)
        raw = {"store": f"edge:{folder}/store", "collection": "c", "slots": slots, "cache": {"enabled": False}}
        config = Config.model_validate({**raw, "search": searched})
        registry = Registry(Plugin(), installed=False)
        with Collection.open(config, registry=registry) as collection:  # populated already, if it was kept
            begin = time.perf_counter()
            collection.populate(map(document, range(options.documents)))
            print(f"populate: {time.perf_counter() - begin:.1f} s")
        with Collection.open(config, registry=registry) as collection:  # one that has not cut these documents itself
            measure(collection, queries, config.search.params)


def measure(collection: Collection, queries: Sequence[str], params: SearchParams) -> None:
    """Print the medians and their ratios to the engine's."""
    sent = search_params(params)
    slot: Any = collection.handle.slots["dense"]
    vectors = [vector.tolist() for vector in slot.encode("query", queries)]
    places = slot.encoder.places([document(number).text for number in range(50)])
    print(f"passages a document: {np.mean([len(own) for own in places]):.1f}")

    def bare(query: int) -> object:
        return collection.client.query_points(
            "c", query=vectors[query], using=slot.vector, limit=10, search_params=sent
        )

    def search(passages: int) -> Callable[[int], object]:
        return lambda query: collection.search(queries[query], limit=10, passages=passages)

    ways = {"engine": bare, "without passages": search(0), "with three": search(3), "with three, again": search(3)}
    milliseconds({"engine": bare, "without passages": search(0)})  # encodes each query, which is then remembered
    times = milliseconds(ways)
    for name, own in times.items():
        clock, cpu = (f"{ms:.2f} ms, {ms / engine:.2f}" for ms, engine in zip(own, times["engine"], strict=True))
        print(f"{name}: p50 {clock} of the engine's, CPU time {cpu}")


if __name__ == "__main__":
    main()
