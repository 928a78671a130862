"""`Runner`: texts through a graph, in batches of like length, answers in the order of the texts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.batches import Budget, batches, padded
from diptych_adapters.engines.tokens import Ids, Tokens

CHUNK = 2048  # texts that are sorted together; the next ones are tokenised meanwhile


class Graph(Protocol):
    """A model as a function of token ids and attention mask, both int64 `[n, tokens]`; threads may call it at once."""

    @property
    def numerics(self) -> str:
        """Backend, precision and device, as in a fingerprint."""
        ...

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Vectors, float32 `[n, width]`."""
        ...


class Runner:
    """Encodes texts with a graph. Threads may use one at once: a query does not wait for documents being encoded.

    Args:
        tokens: makes their ids.
        graph: makes vectors of ids.
        width: numbers of a vector.
        pad: the id that fills up short rows.
        most: rows of a batch; None for as many as the budget of tokens allows.
    """

    def __init__(self, tokens: Tokens, graph: Graph, *, width: int, pad: int, most: int | None = None) -> None:
        self._tokens, self.graph, self._width, self._pad, self._most = tokens, graph, width, pad, most
        self._budget = Budget()

    def encode(self, texts: Sequence[str], prompt: str = "") -> Floats:
        """Vectors of the texts, each after the prompt; float32 `[n, width]`, in their order."""
        found = np.empty((len(texts), self._width), np.float32)
        start = 0
        for ids in self._tokenised(texts, prompt):
            self._run(ids, found[start : start + len(ids)])
            start += len(ids)
        return found

    def _tokenised(self, texts: Sequence[str], prompt: str) -> Iterator[list[Ids]]:
        """The ids of chunk after chunk; the next chunk is tokenised while the caller works on one."""
        parts = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        if len(parts) <= 1:
            yield from (self._tokens.ids(part, prompt) for part in parts)
            return
        with ThreadPoolExecutor(1, "tokenise") as pool:
            coming = pool.submit(self._tokens.ids, parts[0], prompt)
            for following in parts[1:]:
                ready, coming = coming.result(), pool.submit(self._tokens.ids, following, prompt)
                yield ready
            yield coming.result()

    def _run(self, ids: Sequence[Ids], into: Floats) -> None:
        for budget, rows in batches([len(row) for row in ids], self._budget, self._most):
            given, mask = padded([ids[row] for row in rows], self._pad)
            begin = time.perf_counter()
            into[rows] = self.graph(given, mask)
            self._budget.note(budget, given.size, time.perf_counter() - begin)
