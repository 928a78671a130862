"""An encoder of your own, without packaging: a plugin object handed to a registry.

Character trigrams, hashed: it finds words in spite of typing errors. An installable plugin is in third_party_adapter/.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych import AdapterSpec, Collection, Document, Registry
from diptych.config import parse_config
from diptych.protocols import Similarity


class TrigramEncoder:
    """Counts of hashed character trigrams, float32 `[n, 512]`."""

    dimension = 512
    similarity: Similarity = "cosine"

    def encode_query(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        for row, text in zip(vectors, inputs, strict=True):
            padded = f"  {text.lower()} "
            for start in range(len(padded) - 2):
                row[zlib.crc32(padded[start : start + 3].encode()) % self.dimension] += 1
        return vectors

    encode_document = encode_query


class Plugin:
    @diptych.hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = f"{__name__}:TrigramEncoder"
        return [AdapterSpec(name="trigrams", kind="dense", factory=factory, summary="hashed character trigrams")]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        slots = {"dense": {"adapter": "trigrams"}}
        config = parse_config({"store": f"edge:{folder}", "collection": "names", "slots": slots})
        with Collection.open(config, registry=Registry(Plugin())) as names:
            names.populate([Document("1", "Johann Sebastian Bach"), Document("2", "Ludwig van Beethoven")])
            print(names.search("Bethoven, Ludwik", limit=1)[0].document.text)


if __name__ == "__main__":
    main()
