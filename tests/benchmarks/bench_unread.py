"""What populate loses because it counts the tokens that an encoder leaves unread.

    python tests/benchmarks/bench_unread.py --documents 100 --words 1000 --rounds 3

Documents of so many words, joined from those of the example collection, go through an encoder into Qdrant Edge, with
and without counting, by turns. `--encoder static` takes a table of random rows, which costs little but its tokenizer.
Prints ratios of processor time, with counting to without: the median and all rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from diptych import Registry
from diptych.populate import populate
from diptych.slots.unread import UnreadCounter
from diptych_adapters.models import resolve
from diptych_edge import EdgeClient
from drawn_corpus import GIVEN, opened
from rounds import interleaved

CORPUS = Path(__file__).parents[2] / "examples" / "debian" / "corpus.jsonl.gz"


def documents(number: int, words: int) -> list[dict[str, Any]]:
    """Documents of so many words each."""
    with gzip.open(CORPUS) as lines:
        pool = " ".join(json.loads(line)["text"] for line in lines).split()
    texts = (np.roll(pool, -n * words)[:words] for n in range(number))
    return [{"id": n, "text": " ".join(text)} for n, text in enumerate(texts)]


def encoder_of(name: str, folder: Path) -> Any:
    """MiniLM as it is configured by default, or a static embedding."""
    if name == "minilm":
        return Registry.default().create("sentence-transformers", {"model": "all-MiniLM-L6-v2"}, where=name)
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(resolve("all-MiniLM-L6-v2").path / "tokenizer.json"))
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 256)).astype(np.float32)
    StaticModel(rows, tokenizer, normalize=True).save_pretrained(folder)
    return Registry.default().create("static", {"model": str(folder)}, where=name)


@contextmanager
def uncounted() -> Iterator[None]:
    """Nothing is counted within the block."""
    count = UnreadCounter.count
    UnreadCounter.count = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        UnreadCounter.count = count  # type: ignore[method-assign]


def filled(rows: list[dict[str, Any]]) -> float:
    """Seconds of the processor that one populate takes."""
    with tempfile.TemporaryDirectory() as folder, EdgeClient(folder) as client:
        handle = opened(client, "given")
        begin = time.process_time()
        report = populate(handle, rows)
        passed = time.process_time() - begin
    print(f"{passed:.2f} s, {', '.join(map(str, report.unread.values())) or 'not counted'}", flush=True)
    return passed


def filled_without(rows: list[dict[str, Any]]) -> float:
    """The same without counting."""
    with uncounted():
        return filled(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", choices=["minilm", "static"], default="minilm")
    own = parser.parse_args()
    rows = documents(own.documents, own.words)
    with tempfile.TemporaryDirectory() as folder:
        GIVEN["encoder"] = encoder_of(own.encoder, Path(folder))
        jobs = {"with": lambda _: filled(rows), "without": lambda _: filled_without(rows)}
        found = interleaved(jobs, own.rounds)
    ratios = [counted / bare for counted, bare in zip(found["with"], found["without"], strict=True)]
    print(f"ratio {median(ratios):.3f}: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
