"""What the embedding cache costs and saves: populate with and without it in one run, and its own rates.

    python tests/benchmarks/bench_cache.py --documents 20000 --dimension 384 --rounds 5

The encoder looks rows up and costs next to nothing, so the ratios of populate are the worst case: a cold cache is
written and never read, a warm one is read though encoding would be faster. Each round populates three new collections
in Edge, in an order that moves on: without, cold, warm. Printed: seconds, ratios by round, their medians, and what the
cache alone takes for a vector, which is what an encoder of a known rate loses or gains.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.metadata.models import Generation
from diptych.populate import populate
from diptych.protocols import Fingerprint, Similarity
from diptych.registry import Registry
from diptych.slots.cache import EmbeddingCache
from diptych.slots.encode import Vector
from diptych.specs import AdapterSpec
from diptych.types import Document, Floats
from diptych_edge import EdgeClient

WAYS = ("without", "cold", "warm")
PIECE = 256  # texts in a call, as populate makes them


class LookUp:
    """A dense encoder that takes rows of a table."""

    similarity: Similarity = "cosine"
    fingerprint = Fingerprint("look-up", "numpy")
    table: Floats = np.zeros((1, 1), np.float32)

    def __init__(self) -> None:
        self.dimension = self.table.shape[1]

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return self.table[[len(text) % len(self.table) for text in inputs]]

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return self.encode_query(inputs)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="look-up", kind="dense", factory=f"{__name__}:LookUp", summary="rows of a table")]


def documents_of(count: int) -> list[Document]:
    words = "some ninety characters of text, which is about what the synopsis of a package has"
    return [Document(str(n), f"{words} {n}") for n in range(count)]


def seconds_of(way: str, folder: Path, documents: Sequence[Document]) -> float:
    """One populate of a new collection."""
    os.environ["DIPTYCH_CACHE"] = "off" if way == "without" else str(folder / "cache")
    config = Config.model_validate({"collection": "c", "slots": {"dense": {"adapter": "look-up"}}})
    with tempfile.TemporaryDirectory(dir=folder) as store, EdgeClient(Path(store) / "store") as client:
        handle = CollectionHandle(client, "c", config, Registry(Plugin(), installed=False))
        start = time.perf_counter()
        report = populate(handle, documents, report_path=Path(store) / "aside.jsonl")
        took = time.perf_counter() - start
        handle.close()
    hits = {"without": {}, "cold": {"dense": 0}, "warm": {"dense": len(documents)}}[way]
    assert (report.new, report.cache_hits, report.warnings) == (len(documents), hits, ())
    return took


def measure_populate(documents: Sequence[Document], rounds: int) -> dict[str, float]:
    """Median ratios to populate without cache."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for way in (WAYS, ("cold", "without", "warm"), ("cold", "warm", "without"))[number % 3]:
                found[way].append(seconds_of(way, Path(folder), documents))
    for way, seconds in found.items():
        print(f"populate, {way}: median {median(seconds):.2f} s of {', '.join(f'{s:.2f}' for s in seconds)}")
    ratios = {}
    for way in ("cold", "warm"):
        each = [a / b for a, b in zip(found[way], found["without"], strict=True)]
        ratios[way] = median(each)
        print(f"ratio {way} to without: median {ratios[way]:.3f} of {', '.join(f'{r:.3f}' for r in each)}")
    return ratios


def measure_cache(count: int, dimension: int) -> dict[str, float]:
    """Microseconds a vector takes to be looked for and kept, and to be found."""
    rng, texts = np.random.default_rng(0), [f"{document.text}" for document in documents_of(count)]
    rows: list[Vector] = list(rng.normal(size=(PIECE, dimension)).astype(np.float32))
    said = Generation(number=1, vector="v", kind="dense", adapter="a", options={}, space="s", numerics="n")
    found = {}
    with tempfile.TemporaryDirectory() as folder, EmbeddingCache(Path(folder), limit=10**9) as cache:
        space = cache.namespace(said, Fingerprint("s", "n"))
        assert space is not None
        encode: Callable[[Sequence[str]], list[Vector]] = lambda inputs: rows[: len(inputs)]  # noqa: E731
        for what in ("missed and kept", "found"):
            start = time.perf_counter()
            for first in range(0, count, PIECE):
                space.encode(texts[first : first + PIECE], encode)
            found[what] = 1e6 * (time.perf_counter() - start) / count
            print(f"{what}: {found[what]:.1f} us a vector, {1e6 / found[what]:,.0f} a second")
        assert (space.hits, space.misses) == (count, count)
        print(f"file: {cache.size() / 1e6:.0f} MB for {count * dimension * 4 / 1e6:.0f} MB of vectors")
    for rate in (100, 1000, 5000):
        print(f"an encoder of {rate:,} documents a second keeps {1 / (1 + rate * found['missed and kept'] / 1e6):.1%}")
    return found


def run(documents: int, dimension: int, rounds: int) -> dict[str, float]:
    """All of it; the ratios by name."""
    LookUp.table = np.random.default_rng(0).normal(size=(1000, dimension)).astype(np.float32)
    print(f"{documents:,} documents, {dimension} dimensions")
    return {**measure_populate(documents_of(documents), rounds), **measure_cache(documents, dimension)}


def test_the_benchmark_runs() -> None:
    assert set(run(documents=300, dimension=8, rounds=1)) == {"cold", "warm", "missed and kept", "found"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    run(options.documents, options.dimension, options.rounds)
