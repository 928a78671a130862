"""`Runner`: runs texts or pairs through a graph in batches of similar length; answers are in input order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.protocols import Pair
from diptych.types import Floats
from diptych_adapters.engines.batches import BUDGETS, LARGE, Budget, Row, Tokens, batches, padded, padded_to_vectors

Answer = TypeVar("Answer")
Inputs = Sequence[str] | Sequence[Pair]
CHUNK = 2048  # inputs that are sorted together; the next ones are tokenised meanwhile
FIRST = 256  # inputs that a GPU begins with, which would wait for the tokenizer: populate hands over 512 at once


class Graph(Protocol):
    """A model as a function of token ids and attention mask; threads may call it at once."""

    @property
    def numerics(self) -> str:
        """Backend, precision and device, as in a fingerprint."""
        ...

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The answer for each of n rows, float32 `[n, ...]`.

        Args:
            inputs: int64 `[channels, n, tokens]`, ids first; see `Tokens`.
            mask: int64 `[n, tokens]`, 0 where a row is filled up.
        """
        ...


class Runner:
    """Runs a graph. Threads may use one at once: a query does not wait for documents being encoded.

    Args:
        tokens: makes the ids.
        graph: makes answers of ids.
        max_rows: rows of a batch; None for as many as the budget of tokens allows.
    """

    def __init__(self, tokens: Tokens, graph: Graph, *, max_rows: int | None = None) -> None:
        self.tokens, self.graph, self._max_rows = tokens, graph, max_rows
        on_cpu = graph.numerics.endswith("cpu")
        self._budget, self._first = Budget(BUDGETS if on_cpu else LARGE), CHUNK if on_cpu else FIRST
        self._in_vectors = graph.numerics.startswith("openvino")

    def encode(self, inputs: Inputs, prompt: str = "") -> Floats:
        """The graph's answers for texts with the prompt in front; float32 `[n, ...]`, n at least 1."""
        return np.stack(self.each(inputs, lambda answer, row: answer, prompt))

    def token_vectors(self, inputs: Inputs, prompt: str = "") -> list[tuple[Floats, Row]]:
        """For a graph with token outputs: each text's vectors, float32 `[tokens_i, width]`, and its ids."""
        return self.each(inputs, lambda answer, row: (answer[: row.shape[1]].copy(), row), prompt)

    def each(self, inputs: Inputs, finish: Callable[[Floats, Row], Answer], prompt: str = "") -> list[Answer]:
        """The results of `finish` for each input's answer and ids. It must copy what it keeps of a large answer."""
        results: list[Answer] = []
        for rows in self._tokenised(inputs, prompt):
            by_row: dict[int, Answer] = {}
            for indices, answers in self._run(rows):
                for index, answer in zip(indices, answers, strict=True):
                    by_row[index] = finish(answer, rows[index])
            results += [by_row[index] for index in range(len(rows))]
        return results

    def _tokenised(self, inputs: Inputs, prompt: str) -> Iterator[list[Row]]:
        """The ids of each chunk; the next chunk is tokenised while the caller works on one."""
        starts = [0, *range(self._first, len(inputs), CHUNK)]
        parts = [inputs[start:end] for start, end in pairwise([*starts, len(inputs)])] if len(inputs) else []
        if len(parts) <= 1:
            yield from (self.tokens.rows(part, prompt) for part in parts)
            return
        with ThreadPoolExecutor(1, "tokenise") as pool:
            pending = pool.submit(self.tokens.rows, parts[0], prompt)
            for following in parts[1:]:
                ready, pending = pending.result(), pool.submit(self.tokens.rows, following, prompt)
                yield ready
            yield pending.result()

    def _run(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Floats]]:
        for budget, indices in batches([row.shape[1] for row in rows], self._budget, self._max_rows):
            padded_ids, mask = self._padded([rows[index] for index in indices])
            begin = time.perf_counter()
            answers = self.graph(padded_ids, mask)
            self._budget.note(budget, mask.size, time.perf_counter() - begin)
            yield indices, answers

    def _padded(self, rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._in_vectors:
            return padded_to_vectors(rows, self.tokens.pad, self.tokens.max_length)
        return padded(rows, self.tokens.pad)
