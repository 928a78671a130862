"""Residual codes (DualToken) of embeddings beside Qdrant's quantized copies.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_residual_codes.py --out build/codes

Documents are 5,120 packages of debian-synopsis, queries the one-line descriptions of 500 of them, by all-MiniLM-L6-v2.
Books are fitted to the 5,120 packages before these by name: the first book of 256 codes to the vectors by k-means, each
further book to what the books before it leave. A vector is a code a book, one byte each, and its score the sum of the
query's products with its codes. Product codes have a book for each few numbers of a vector, as those of Qdrant's
`product`; other copies are the engine's. `of the 10 nearest` is the share of the ten nearest by whole vectors among the
ten best by codes and among the 40 best. Intervals are Student's over the seeds of books and queries, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from compare_characters import OPTIONS, encoded_by, kept, packages, paraphrases
from compare_nested_codes import ENGINE, best, by_engine
from corpora import folder_of
from diptych import Registry
from diptych.types import Floats
from effects.running import student_interval
from machine import facts

SEEDS, SIZE, BOOKS, CODES, ROUNDS, K = (0, 1, 2), 5120, (8, 24), 256, 4, 10
DEPTHS = (K, 4 * K)
ENGINE = {name: own for name, own in ENGINE.items() if "2 bits" not in name or "turbo" in name}
CHUNKS = {24: 16, 48: 8}  # numbers that Qdrant's product quantization puts into one byte, by bytes of a vector


def fitted(training: Floats, vectors: Floats, books: int, seed: int) -> Iterator[Floats]:
    """What each book says of each vector `[n, d]`; books are fitted by k-means to what those before them leave."""
    rng, left, rest = np.random.default_rng(seed), training.copy(), vectors.copy()
    for _ in range(books):
        book = left[rng.choice(len(left), CODES, replace=False)].copy()
        for _ in range(ROUNDS):
            own = nearest(left, book)
            counts = np.bincount(own, minlength=CODES)
            members = sparse.csr_array((np.ones(len(own), np.float32), (own, np.arange(len(own)))), (CODES, len(own)))
            book = np.where(counts[:, None] > 0, (members @ left) / np.maximum(counts, 1)[:, None], book)
            unused = np.flatnonzero(counts == 0)
            book[unused] = left[rng.choice(len(left), len(unused), replace=False)]  # as DualToken restarts them
        left = left - book[nearest(left, book)]
        said = book[nearest(rest, book)]
        yield said
        rest = rest - said


def nearest(vectors: Floats, book: Floats) -> Any:
    """The nearest code of each vector."""
    return np.argmax(vectors @ book.T - (book**2).sum(1) / 2, axis=1)


def widths(out: Path) -> dict[str, list[float]]:
    """Codes of several sizes, and Qdrant's copies."""
    names, texts = (own[: 2 * SIZE] for own in packages(folder_of("debian-synopsis")))
    both = [f"{name} {text}" for name, text in zip(names, texts, strict=True)]
    encoder: Any = Registry.default().create("sentence-transformers", OPTIONS)
    vectors = kept(out / f"minilm-{2 * SIZE}.npy", lambda: encoded_by(encoder.encode_document, both))
    training, documents = np.split(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 2)
    places = {name: place for place, name in enumerate(names[SIZE:])}
    values: dict[str, list[float]] = {}
    for seed in SEEDS:
        pairs = paraphrases(places, seed)
        asked = np.asarray(encoder.encode_query([query for query, _ in pairs]), np.float32)
        whole = asked @ documents.T
        ways = {"whole vectors, 1,536 bytes": best(whole, DEPTHS[1])}
        said = np.zeros_like(documents)
        for books, own in enumerate(fitted(training, documents, BOOKS[-1], seed), 1):
            said = said + own
            if books in BOOKS:
                ways[f"residual codes, {books} bytes"] = best(asked @ said.T, DEPTHS[1])
        for size, chunk in CHUNKS.items():
            cuts = [slice(at, at + chunk) for at in range(0, documents.shape[1], chunk)]
            each = [next(fitted(training[:, cut], documents[:, cut], 1, seed)) for cut in cuts]
            ways[f"product codes, {size} bytes"] = best(asked @ np.concatenate(each, axis=1).T, DEPTHS[1])
        if seed == SEEDS[0]:  # the engine's copies have no seed that could be given
            ways |= {kind: by_engine(asked, documents, own) for kind, own in ENGINE.items()}
        for kind, found in ways.items():
            for name, value in told(found, whole, [place for _, place in pairs]).items():
                values.setdefault(f"{kind} | {name}", []).append(value)
    return values


def told(found: Any, whole: Floats, right: Sequence[int]) -> dict[str, float]:
    """Shares of the nearest, and R@1 by codes and of the 40 best by whole vectors."""
    ten = best(whole, K)
    shares = {
        f"of the 10 nearest in {size}": np.mean([len({*a} & {*b[:size]}) / K for a, b in zip(ten, found, strict=True)])
        for size in DEPTHS
    }
    first = np.take_along_axis(found, best(np.take_along_axis(whole, found, 1), 1), 1)[:, 0]
    values = {**shares, "R@1": np.mean(found[:, 0] == right), "R@1, 40 rescored": np.mean(first == right)}
    return {name: float(value) for name, value in values.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/codes"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    values = widths(out)
    for name, numbers in values.items():
        low, high = student_interval(np.array(numbers)) if len(numbers) > 1 else (float("nan"),) * 2
        print(f"{name} | {np.mean(numbers):.3f} [{low:.3f}, {high:.3f}]", flush=True)
    (out / "found.json").write_text(json.dumps({"machine": facts(), "values": values}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
