"""What share of an encoder's own rate populate reaches.

    python tests/benchmarks/bench_populate.py --encoders openvino:bfloat16,openvino:int8

Real documents through all-MiniLM-L6-v2 into Qdrant Edge: encode_document on the whole list against populate, by turns.
What populate costs besides encoding, and how that grows: bench_growth.py. `--json FILE` keeps the figures (figures.py).
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from corpora import folder_of
from diptych import Registry
from diptych.populate import populate
from diptych_edge import EdgeClient
from drawn_corpus import GIVEN, opened
from figures import Figure, Result
from machine import versions
from variants import fastest


def shares(encoders: Sequence[str], corpus: Path, documents: int, rounds: int) -> list[Figure]:
    """How much of an encoder's own rate populate reaches."""
    with gzip.open(corpus / "corpus.jsonl.gz") as lines:
        rows = [row for row in map(json.loads, lines) if row["text"].strip()][:documents]
    texts = [f"{row.get('title', '')} {row['text']}".strip() for row in rows]
    figures = []
    for name in encoders:
        backend, _, precision = name.partition(":")
        options = {"model": "all-MiniLM-L6-v2", "backend": backend, "precision": precision or "float32"}
        encoder: Any = Registry.default().create("sentence-transformers", options, where=name)
        GIVEN["encoder"] = encoder
        share(encoder, texts[:400], rows[:400])  # which does not count, and shows int8 its texts
        both = [share(encoder, texts, rows) for _ in range(rounds)]
        for at, kind in enumerate(("wall", "processor")):
            values = [row[at] for row in both]
            what = f"rate of populate, by {kind} time"
            wanted = ">= 0.9" if at == 0 else ""
            figures.append(Figure(what, name, "ratio", values, "encode_document", wanted))
    return figures


def share(encoder: Any, texts: list[str], rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds of the encoder over those of populate, by the clock and by the processor."""
    own = timed(lambda: encoder.encode_document(texts))
    with tempfile.TemporaryDirectory() as folder, EdgeClient(folder) as client:
        handle = opened(client, "given")
        all_of_it = timed(lambda: populate(handle, rows))
    print(
        f"encode {own[0]:.2f} s, populate {all_of_it[0]:.2f} s; processor {own[1]:.2f} s, {all_of_it[1]:.2f} s",
        flush=True,
    )
    return own[0] / all_of_it[0], own[1] / all_of_it[1]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default=fastest().replace(" ", ":"), help="backend:precision, with commas")
    parser.add_argument("--corpus", default="cranfield", help="below $DIPTYCH_DATA, or a path")
    parser.add_argument("--documents", type=int, default=1400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    corpus = folder_of(options.corpus)
    figures = shares(options.encoders.split(","), corpus, options.documents, options.rounds)
    notes = [f"{options.documents} documents of {corpus.name}, all-MiniLM-L6-v2, into Edge."]
    Result("Populate beside its encoder alone", figures, notes, {"diptych": versions()}).write(options.json)


if __name__ == "__main__":
    main()
