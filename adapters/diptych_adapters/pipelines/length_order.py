"""Encodes inputs in batches of similar length, with answers in input order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Answer = TypeVar("Answer")


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
