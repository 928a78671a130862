"""Points for the benchmark of queries: texts, their vectors, and the queries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from corpora import read_texts
from diptych.evaluate import read_beir
from peers.talking import Worker
from peers.venvs import folder

WORDS = 24  # of a passage
NOISE = 0.3  # of the length of a vector


def passages(folders: Sequence[Path], points: int) -> list[str]:
    """Texts for so many points: the first collection's documents, or passages of all when it has not half as many."""
    documents = list(read_texts(folders[0]).values())
    if points <= 2 * len(documents):
        return documents[:points]
    return list(islice(dict.fromkeys(_cut(folders)), points))


def _cut(folders: Sequence[Path]) -> Iterator[str]:
    for folder_ in folders:
        for text in read_texts(folder_).values():
            words = text.split()
            yield from (" ".join(words[first : first + WORDS]) for first in range(0, len(words), WORDS))


def in_turn(folder_: Path, rounds: int, number: int) -> list[list[str]]:
    """The collection's own queries, so many for each round, none twice.

    Raises:
        SystemExit: it has not so many.
    """
    queries = list(dict.fromkeys(query.text for query in read_beir(folder_)[0]))
    if rounds * number > len(queries):
        raise SystemExit(
            f"{rounds * number} queries are wanted, {folder_.name} has {len(queries)}: take fewer --queries"
        )
    return [queries[first : first + number] for first in range(0, rounds * number, number)]


def store_vectors(ours: Worker, way: str, texts: Sequence[str], points: int, file: Path) -> None:
    """The texts' own vectors, which are kept for the next time; beyond their number, copies moved by noise."""
    digest = hashlib.sha256("\0".join([ours.versions["diptych"], *texts]).encode()).hexdigest()[:16]
    kept = folder() / "vectors" / f"{digest}.npy"
    if not kept.exists():
        print(f"encoding {len(texts):,} texts for the stores to hold", flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        ours.ask("vectors", way=way, inputs=texts, into=str(kept.with_suffix(".unfinished.npy")))
        kept.with_suffix(".unfinished.npy").replace(kept)
    own = np.load(kept)
    again = own[np.arange(len(own), points) % len(own)]
    noise = np.random.default_rng(0).normal(size=again.shape) * (NOISE / np.sqrt(own.shape[1]))
    rows = np.concatenate([own, again + noise]).astype(np.float32)
    np.save(file, rows / np.linalg.norm(rows, axis=1, keepdims=True))
