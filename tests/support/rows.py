"""An encoder whose vectors a test knows: the text "17" is row 17 of a table, the query "q17" something near it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych import AdapterSpec, Registry, hookimpl
from diptych.protocols import Fingerprint, Similarity
from diptych.testing import fakes_plugin
from diptych.types import Floats

QUERIES = 30


class Rows:
    """Rows of clustered vectors whose first numbers vary most, as those of a model trained for Matryoshka truncation.

    Args:
        count, dimension: of the table.
        similarity: as declared.
        whole: numbers from 0 to 255 without a fraction, which a byte holds.
        seed: another seed is another space.
    """

    def __init__(
        self,
        *,
        count: int = 1500,
        dimension: int = 64,
        similarity: Similarity = "cosine",
        whole: bool = False,
        seed: int = 0,
    ) -> None:
        self.dimension, self.similarity = dimension, similarity
        random = np.random.default_rng(seed)
        falling = 1 / np.sqrt(1 + np.arange(dimension) / 8)
        rows = random.normal(size=(30, dimension))[random.integers(0, 30, count)] + random.normal(
            size=(count, dimension)
        )
        near = rows[:QUERIES] + 0.5 * random.normal(size=(QUERIES, dimension))
        self.rows: Floats
        self.queries: Floats
        self.rows, self.queries = (self._finished(part * falling, whole) for part in (rows, near))
        self.fingerprint = Fingerprint(f"rows-{count}-{dimension}-{similarity}-{whole}-{seed}", "numpy")

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return np.stack([self._row(text) for text in inputs])

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return np.stack([self._row(text) for text in inputs])

    def _row(self, text: str) -> Floats:
        """A row; of other texts, such as the guard's, one that their characters choose."""
        if text.isdecimal() and int(text) < len(self.rows):
            found: Floats = self.rows[int(text)]
        elif text[1:].isdecimal():
            found = self.queries[int(text[1:])]
        else:
            found = self.rows[sum(map(ord, text)) % len(self.rows)]
        return found

    def _finished(self, rows: NDArray[np.float64], whole: bool) -> Floats:
        if whole:
            return np.clip(np.rint(60 + 30 * rows), 0, 255).astype(np.float32)
        if self.similarity == "cosine":
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)


class Plugin:
    """Brings `rows`."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="rows", kind="dense", factory="rows:Rows", summary="rows of a table, for tests")]


def registry() -> Registry:
    """The rows beside the fakes."""
    return Registry(Plugin(), fakes_plugin, installed=False)
