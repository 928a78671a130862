"""What a token costs in populate with passages, beside populate without them, with all-MiniLM-L6-v2 in one run.

    python tests/benchmarks/bench_passages_cost.py [--documents 40] [--rounds 5]

The same texts twice, on Qdrant Edge: documents of some 2,000 tokens with passages of 200 and no overlap, and each of
their passages as a document that the model reads whole. Rounds alternate. Prints CPU microseconds of the process for a
token that the model reads, special ones left out, and the median ratio; at most 1.1 is wanted.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from statistics import median
from typing import Any

from corpora import folder_of, read_texts
from diptych import Collection, Document
from diptych.config import parse_config
from machine import facts
from manual_pages.tokens import minilm_tokens
from manual_pages.ways import OPTIONS

WORDS, LIMIT = 1500, 1.1
PASSAGES = {"tokens": 200, "overlap": 0}


def long_texts(count: int) -> list[str]:
    """Texts of 1,500 words from the descriptions of Debian's packages."""
    texts = read_texts(folder_of("debian-mini")).values()
    words = itertools.chain.from_iterable(f"{text.rstrip('.')}.".split() for text in texts)
    return [" ".join(itertools.islice(words, WORDS)) for _ in range(count)]


def populated(texts: list[str], passages: dict[str, Any] | None) -> tuple[float, list[str]]:
    """CPU seconds of a populate into a new store, and the texts that the model read."""
    dense = {"adapter": "sentence-transformers", **OPTIONS, **({"passages": passages} if passages else {})}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        store = {"store": f"edge:{folder}", "collection": "c"}
        config = parse_config({**store, "slots": {"dense": dense}, "cache": {"enabled": False}})
        with Collection.open(config) as collection:
            collection.populate([Document("first", "a text that loads the model")])
            begun = time.process_time()
            collection.populate([Document(f"d{n}", text) for n, text in enumerate(texts)])
            passed = time.process_time() - begun
            if not passages:
                return passed, texts
            encoder: Any = collection.handle.slots["dense"].encoder
            return passed, [text for own in encoder.splitter.split(texts) for text in encoder.splitter.read(own)]


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts, ratios = long_texts(options.documents), []
    for number in range(options.rounds):
        with_passages, read = populated(texts, PASSAGES)
        without, _ = populated(read, None)
        tokens = sum(map(len, minilm_tokens().encode_batch(read, add_special_tokens=False)))
        ratios.append(with_passages / without)
        costs = f"{1e6 * without / tokens:,.0f} us a token without, {1e6 * with_passages / tokens:,.0f} with passages"
        print(f"round {number}, {len(read)} passages, {tokens:,} tokens: {costs}, {ratios[-1]:.3f}", flush=True)
    print(f"{OPTIONS}, {facts()['cpu']}: median ratio {median(ratios):.3f}, at most {LIMIT} wanted")
    raise SystemExit(median(ratios) > LIMIT)


if __name__ == "__main__":
    main()
