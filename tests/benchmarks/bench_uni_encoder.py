"""Pairs a second of a Uni-Encoder beside a cross-encoder of the same transformer, in CPU time, in turn.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_uni_encoder.py [--candidates 20] [--tokens 40] [--rounds 9]

Both are adapters as they serve, with the weights of all-MiniLM-L6-v2 and new heads: time does not depend on what was
learned. Every round has a new query; `known` scores the same candidates for the query again, whose states are kept.
`same` is the largest difference of a score alone from the one among all candidates.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from diptych.protocols import Pair
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import load_transformer, quiet
from diptych_adapters.uni_encoder import Settings, UniEncoder, UniEncoderReranker

START, SPECIAL = "all-MiniLM-L6-v2", 2
WORDS = ["audio", "video", "music", "file", "convert", "tool", "library", "server", "manager", "game", "text"]


def main() -> None:
    """Print a line for each length of queries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=40, help="of a candidate")
    parser.add_argument("--queries", type=int, nargs="+", default=[200, 100, 50, 20, 10], help="tokens of a query")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    random = np.random.default_rng(0)

    def text(tokens: int) -> str:
        return " ".join(random.choice(WORDS, tokens - SPECIAL))

    with tempfile.TemporaryDirectory() as folder:
        cross, uni = made(Path(folder))
        for length in options.queries:
            rounds = [
                [(query, text(options.tokens)) for _ in range(options.candidates)]
                for query in (text(length) for _ in range(options.rounds + 1))
            ]
            times = [(cpu(cross, pairs), cpu(uni, pairs), cpu(uni, pairs)) for pairs in rounds][1:]
            rates = [options.candidates / statistics.median(column) for column in zip(*times, strict=True)]
            alone = np.concatenate([uni.predict([pair]) for pair in rounds[-1]])
            print(
                f"query {length:3} tokens: cross-encoder {rates[0]:.0f} pairs/s, Uni-Encoder {rates[1]:.0f} "
                f"({rates[1] / rates[0]:.1f} times), known query {rates[2]:.0f} ({rates[2] / rates[0]:.1f} times), "
                f"same within {np.abs(alone - uni.predict(rounds[-1])).max():.0e}",
                flush=True,
            )


def made(folder: Path) -> tuple[CrossEncoderReranker, UniEncoderReranker]:
    """Both rerankers."""
    from sentence_transformers import CrossEncoder

    start, known = resolve(START), Settings(max_length=512, query_length=256)
    with quiet():
        CrossEncoder(str(start.path), num_labels=1, device="cpu").save_pretrained(str(folder / "cross"))
        model, tokenizer = load_transformer("AutoModelForTokenClassification", start, fresh_head=True, num_labels=1)
        UniEncoder(model, tokenizer, known).save(folder / "uni")
    options = {"device": "cpu"}
    cross = CrossEncoderReranker.of(model=str(folder / "cross"), **options)
    return cross, UniEncoderReranker(model=str(folder / "uni"), **options)


def cpu(reranker: CrossEncoderReranker | UniEncoderReranker, pairs: list[Pair]) -> float:
    """Seconds of CPU time."""
    begin = time.process_time()
    reranker.predict(pairs)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
