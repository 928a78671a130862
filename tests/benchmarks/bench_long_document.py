"""Peak memory of populating one long document with passages, on Qdrant Edge and with an encoder that costs nothing.

    python tests/benchmarks/bench_long_document.py [--megabytes 100] [--dimension 4]

A point of Qdrant holds fewer than 2^20 numbers of a slot, so that 100 MB fit with four dimensions only, and with 384
the document is rejected by name. Prints one line of JSON: what was stored and rejected, the number of vectors in the
point, seconds, and by how many MB the process's peak grew, beside the size of the text.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from diptych import AdapterSpec, Collection, Document, Registry, hookimpl
from diptych.config.models import Config
from diptych.types import Floats


class HashedVectors:
    """A dense encoder without a model: a checksum of the text, as a vector. It tells no tokens."""

    similarity = "cosine"

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = dimension

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]`."""
        return np.stack([self._vector(text) for text in inputs])

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]`."""
        return self.encode_query(inputs)

    def _vector(self, text: str) -> Floats:
        (place,) = np.random.default_rng(zlib.crc32(text.encode())).integers(0, self.dimension, 1)
        vector = np.ones(self.dimension, np.float32)
        vector[place] = 2
        return vector


class Plugin:
    """Registers the encoder."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """The adapter `hashed`."""
        return [AdapterSpec(name="hashed", kind="dense", factory="hashed_vectors:HashedVectors", summary="checksums")]


def prose(characters: int) -> str:
    """Sentences of twelve words, eight to a paragraph."""
    sentences = [" ".join(f"w{(n * 31 + k * k) % 5000}" for k in range(12)).capitalize() + "." for n in range(1000)]
    page = "".join(sentence + (" " if n % 8 else "\n\n") for n, sentence in enumerate(sentences))
    return (page * (1 + characters // len(page)))[:characters]


def peak() -> float:
    """The most memory this process has had resident so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def filled(megabytes: float, dimension: int) -> dict[str, Any]:
    """What populate does with a long document and a short one after it."""
    sys.modules["hashed_vectors"] = made = ModuleType("hashed_vectors")
    made.HashedVectors = HashedVectors  # type: ignore[attr-defined]
    slots = {"dense": {"adapter": "hashed", "dimension": dimension, "passages": {"tokens": 200}}}
    raw: dict[str, Any] = {"collection": "c", "slots": slots, "cache": {"enabled": False}}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        raw |= {"store": f"edge:{folder}/store", "populate": {"max_characters": 2**31}}
        with Collection.open(Config.model_validate(raw), registry=Registry(Plugin(), installed=False)) as collection:
            collection.populate([Document("first", prose(10_000))])
            text = prose(round(megabytes * 1e6))
            before, begun = peak(), time.perf_counter()
            report = collection.populate([Document("long", text), Document("last", "one two")])
            seconds, grown = time.perf_counter() - begun, peak() - before
            stored = [document.text for document in collection.get(["long"])]
            points: Any = collection.client.scroll("c", with_vectors=True, with_payload=["id"])[0]
            counts = [len(point.vector["dense.1"]) for point in points]
            return {
                "megabytes": megabytes,
                "new": report.new,
                "whole": stored == [text],
                "rejected": [f"{example.id}: {example.reason}" for example in report.examples],
                "vectors": max(counts),
                "seconds": round(seconds, 1),
                "grown": round(grown),
                "times": round(grown / megabytes, 1),
            }


def main() -> None:
    """Populate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--dimension", type=int, default=4)
    options = parser.parse_args()
    print(json.dumps(filled(options.megabytes, options.dimension)))


if __name__ == "__main__":
    main()
