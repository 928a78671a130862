"""A corpus made up as it is read: numbered documents of 12 words, and an encoder that draws their 384 numbers.

The vectors are clustered as embeddings are: 1,000 centres, around them a spread in 32 directions that all share, and a
little noise. Of uniform noise in 384 dimensions all points are about equally far away; recall on it says nothing.
They are drawn when they are asked for, or read from a file that `DIPTYCH_DRAWN` names: who measures what goes on beside
an encoder wants none that keeps a core busy.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client.client_base import QdrantBase

import diptych
from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle

WIDTH, BLOCK = 384, 1024
WORDS = "which of the words that a document of this length may hold"
TABLE = "DIPTYCH_DRAWN"
MEMORY: dict[str, Any] = {}  # the table, where it is kept in memory
GIVEN: dict[str, Any] = {}  # the encoder that the adapter `given` makes


class Drawn:
    """A dense encoder of the vectors of numbered documents; `seconds` and `worked` are the time spent in it."""

    name, dimension, similarity = "drawn", WIDTH, "cosine"
    seconds = worked = 0.0

    def encode_query(self, inputs: Sequence[str]) -> Any:
        return np.ones((len(inputs), WIDTH), np.float32)

    def encode_document(self, inputs: Sequence[str]) -> Any:
        begin, worked = time.perf_counter(), time.thread_time()
        numbers = [int(text[9:19]) if text.startswith("document ") else 0 for text in inputs]
        found = vectors(numbers)
        Drawn.seconds += time.perf_counter() - begin
        Drawn.worked += time.thread_time() - worked
        return found


@functools.cache
def shape() -> tuple[Any, Any]:
    """Centres [1000, 384] and the directions of the spread [32, 384]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1000, WIDTH), np.float32), rng.standard_normal((32, WIDTH), np.float32)


def drawn(seed: int, rows: int) -> Any:
    """Vectors [rows, 384]."""
    rng, (centres, directions) = np.random.default_rng(seed), shape()
    spread = 0.2 * rng.standard_normal((rows, len(directions)), np.float32) @ directions
    noise = 0.1 * rng.standard_normal((rows, WIDTH), np.float32)
    return centres[rng.integers(0, len(centres), rows)] + spread + noise


@functools.lru_cache(maxsize=4)
def block(number: int) -> Any:
    return drawn(1_000 + number, BLOCK)


def vectors(numbers: Sequence[int]) -> Any:
    """Those of numbered documents [n, 384]."""
    if MEMORY:
        return MEMORY["table"][np.asarray(numbers)]
    table = os.environ.get(TABLE)
    if not table:
        return np.stack([block(number // BLOCK)[number % BLOCK] for number in numbers])
    low, high = min(numbers), max(numbers) + 1  # a piece of the corpus is one reading of the file
    found = np.fromfile(table, np.float32, (high - low) * WIDTH, offset=low * WIDTH * 4).reshape(-1, WIDTH)
    return found[np.asarray(numbers) - low]


def table_in_memory(size: int) -> None:
    """Keep the vectors of so many documents in memory: there an encoder costs nothing."""
    MEMORY["table"] = np.concatenate([block(number) for number in range(-(-size // BLOCK))])[:size]


def write_table(path: Path, size: int) -> None:
    """The vectors of so many documents into a file, of 1.5 kB each."""
    with path.open("wb") as file:
        for number in range(-(-size // BLOCK)):
            block(number)[: size - number * BLOCK].tofile(file)


class Documents:
    """Numbered documents, made as they are read."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[dict[str, str]]:
        for number in range(self.size):
            yield {"id": str(number), "text": f"document {number:010d} {WORDS}"}


class Adapters:
    @diptych.hookimpl
    def diptych_register_adapters(self) -> list[diptych.AdapterSpec]:
        names = {"drawn": "Drawn", "given": "given"}
        return [
            diptych.AdapterSpec(name=name, kind="dense", factory=f"{__name__}:{maker}", summary="for a benchmark")
            for name, maker in names.items()
        ]


def given() -> Any:
    return GIVEN["encoder"]


def opened(client: QdrantBase, adapter: str, storage: dict[str, Any] | None = None) -> CollectionHandle:
    return CollectionHandle(client, "c", config_of(adapter, storage), Registry(Adapters(), installed=False))


def config_of(adapter: str, storage: dict[str, Any] | None = None) -> Config:
    slots = {"dense": {"adapter": adapter, "storage": storage or {}}}
    return Config.model_validate({"collection": "c", "slots": slots, "cache": {"enabled": False}})
