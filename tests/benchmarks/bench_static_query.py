"""Time of a dense query from its text to ten documents, by a static encoder in an embedded store.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_static_query.py

The path of a student of kind `static` (docs/research/methods/student.md): its table has 384 numbers for each token of
all-MiniLM-L6-v2's tokenizer. Here they are random, which changes what is found, not how long it takes. The collection
holds the packages of examples/debian, and its queries are asked one at a time; none is remembered.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from diptych import Collection, Registry
from diptych.evaluate import read_beir
from diptych.populate import open_source
from diptych_adapters.models import resolve
from machine import facts

DEBIAN = Path(__file__).parents[2] / "examples" / "debian"


def model(folder: Path) -> Path:
    """A static encoder with a random table."""
    tokenizer = Tokenizer.from_file(str(resolve("all-MiniLM-L6-v2").path / "tokenizer.json"))
    tokenizer.no_padding()
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 384)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)]).save(str(folder))
    return folder


def main() -> None:
    """Fill the collection, and print the times of its queries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    texts = [query.text for query in read_beir(DEBIAN)[0]]
    with tempfile.TemporaryDirectory() as place:
        slots = {"dense": {"adapter": "static", "model": str(model(Path(place) / "model"))}}
        raw = {"store": f"edge:{place}/store", "collection": "c", "slots": slots, "search": {"remember": 0}}
        with Collection.open(raw, registry=Registry.default()) as collection:
            collection.populate(open_source(DEBIAN / "corpus.jsonl.gz"))
            for text in texts[:50]:
                collection.search(text)
            print({key: value for key, value in facts().items() if key in ("cpu", "commit")})
            for number in range(given.rounds):
                wall, processor = zip(*(_timed(collection, text) for text in texts), strict=True)
                row = (f"median {median(of):.2f}, least {min(of):.2f} ms" for of in (wall, processor))
                print(f"round {number + 1}: {' by the clock; '.join(row)} of the processor")


def _timed(collection: Collection, text: str) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    collection.search(text)
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)


if __name__ == "__main__":
    main()
