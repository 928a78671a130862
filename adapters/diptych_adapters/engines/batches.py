"""Batches of inputs of similar length, so that there is hardly any padding, and the arrays that models get."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.engines.tokens import Row

Answer = TypeVar("Answer")

CHANNELS = ("input_ids", "token_type_ids")
MASK = "attention_mask"
BUDGETS = (1024, 2048, 4096, 8192)  # tokens of a batch on a CPU, padding included
LARGE = (8192, 16384, 32768, 65536)  # on a GPU
TRIALS = 2  # batches of each budget that are timed before one is chosen
NARROW = 0.8  # of a batch's longest row: shorter ones wait for the next batch, once this one has `FEW` rows
FEW = 8
VECTOR = 16  # tokens: OpenVINO's attention computes those beyond a multiple one by one, as measured with AVX-512
WASTE = 1 / 16  # of a batch's longest row, which may be added to come to a multiple
FULL = 0.75  # of the budget: smaller batches are no measurement of it


@dataclass(slots=True)
class Budget:
    """Tokens per batch: sizes are tried on the first batches of real work, and the fastest is kept.

    Threads may share one. It affects vectors by rounding alone.

    Args:
        sizes: candidates, the smallest first.
    """

    sizes: Sequence[int] = BUDGETS
    tokens: int = field(init=False)
    _rates: dict[int, list[float]] = field(init=False)
    _settled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.tokens, self._rates = self.sizes[0], {size: [] for size in self.sizes}

    def note(self, budget: int, tokens: int, seconds: float) -> None:
        """Record that a batch made by `budget` had so many tokens and took so long."""
        if self._settled or tokens < FULL * budget:
            return
        self._rates[budget].append(tokens / max(seconds, 1e-9))
        untried = [size for size, rates in self._rates.items() if len(rates) < TRIALS]
        if untried:
            self.tokens = untried[0]
            return
        self.tokens = max(self._rates, key=lambda size: max(self._rates[size]))
        self._settled = True


def batches(lengths: Sequence[int], budget: Budget, max_rows: int | None = None) -> Iterator[tuple[int, list[int]]]:
    """Rows in batches within the budget, at most `max_rows` rows each, with the budget; too long rows come alone.

    The longest rows come first, so that a batch that does not fit into memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        tokens = budget.tokens
        longest = lengths[order[start]]
        size = max(1, min(tokens // max(1, longest), max_rows or tokens))
        rows = order[start : start + size]
        alike = sum(lengths[row] >= NARROW * longest for row in rows)
        rows = rows[: max(alike, FEW)]
        yield tokens, rows
        start += len(rows)


def padded(rows: Sequence[Row], pad: int, *, width: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows padded to one length: ids with `pad`, int64 `[channels, n, tokens]`, and the mask, int64 `[n, tokens]`.

    Args:
        rows: of ids, `[channels, tokens_i]`.
        pad: the padding id.
        width: the least length to pad to.
    """
    width = max(width, max(row.shape[1] for row in rows))
    inputs = np.zeros((rows[0].shape[0], len(rows), width), np.int64)
    inputs[0] = pad
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        inputs[:, index, : row.shape[1]] = row
        mask[index, : row.shape[1]] = 1
    return inputs, mask


def padded_to_vectors(
    rows: Sequence[Row], pad: int, max_tokens: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Like `padded`, up to whole hardware vectors if few tokens are missing; `max_tokens` is the model's limit."""
    return padded(rows, pad, width=whole_vectors(max(row.shape[1] for row in rows), max_tokens))


def whole_vectors(longest: int, max_tokens: int | None) -> int:
    """The padded length for attention in whole hardware vectors: slightly above the longest row's, or 0.

    So a batch may have a sixteenth more than its budget.

    Args:
        longest: tokens of that row.
        max_tokens: tokens that the model reads of a text; a row with more might be one too long for it.
    """
    width = -(-longest // VECTOR) * VECTOR
    return width if width - longest <= WASTE * longest and width <= (max_tokens or 0) else 0


def input_names(*, typed: bool) -> tuple[str, ...]:
    """The inputs of a part, in the order of `SingleFeature.forward`; `typed` adds token types."""
    return (CHANNELS[0], MASK, *CHANNELS[1:]) if typed else (CHANNELS[0], MASK)


def feeds(names: Iterable[str], inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The arrays for these inputs; missing token types are 0."""
    arrays = {MASK: mask, **dict(zip(CHANNELS, inputs, strict=False))}
    arrays.setdefault(CHANNELS[1], np.zeros_like(mask))
    return {name: arrays[name] for name in names}


def by_length(inputs: Sequence[str], batch_size: int, encode: Callable[[list[str]], Iterable[Answer]]) -> list[Answer]:
    """The results of `encode` for each input; it receives the longest first, `batch_size` at a time.

    Like lengths together waste no padding; the longest first fail early when memory is short.
    """
    order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        answers.update(zip(batch, encode([inputs[index] for index in batch]), strict=True))
    return [answers[index] for index in range(len(inputs))]
