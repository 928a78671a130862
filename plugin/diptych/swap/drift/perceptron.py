"""A small residual multilayer perceptron on top of Procrustes, trained in numpy with Adam and early stopping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych.slots.drift_maps import Map, Residual
from diptych.swap.drift.linear import likeness, procrustes
from diptych.swap.drift.pairs import Pairs
from diptych.types import Floats

HIDDEN, BATCH, RATE, EPOCHS, PATIENCE = 256, 256, 1e-3, 60, 5


def perceptron(train: Pairs, tune: Pairs, *, seed: int, hidden: int = HIDDEN) -> Map:
    """Procrustes plus `relu(x @ inner + bias) @ outer`, kept as it was when it did best on `tune`.

    After Vejendla, "Drift-Adapter", EMNLP 2025 (arXiv 2509.23471), which adds to the identity and uses GELU. `outer`
    starts at zero, so the first candidate is Procrustes itself. Kingma and Ba, "Adam", 2015.
    """
    rng = np.random.default_rng(seed)
    start = replace(procrustes(train, tune), kind="mlp")
    weights = _initial(rng, train, hidden)
    best, best_score, waited = start, likeness(start.apply, tune), 0
    base, optimizer = train.new @ start.weight + start.bias, Adam(weights)
    for _ in range(EPOCHS):
        for rows in _batches(rng, len(train)):
            optimizer.step(_gradients(weights, train.of(rows), base[rows]))
        candidate = replace(start, residual=Residual(*(array.copy() for array in weights)))
        score = likeness(candidate.apply, tune)
        best, best_score, waited = (candidate, score, 0) if score > best_score else (best, best_score, waited + 1)
        if waited == PATIENCE:
            break
    return best


class Adam:
    """Moves weights, in place, against their gradients."""

    def __init__(self, weights: list[Floats], rate: float = RATE) -> None:
        self._weights, self._rate, self._steps = weights, rate, 0
        self._first = [np.zeros_like(array) for array in weights]
        self._second = [np.zeros_like(array) for array in weights]

    def step(self, gradients: list[Floats]) -> None:
        """One step; gradients in the order of the weights."""
        self._steps += 1
        rate = self._rate * float(np.sqrt(1 - 0.999**self._steps)) / (1 - 0.9**self._steps)
        for weight, first, second, gradient in zip(self._weights, self._first, self._second, gradients, strict=True):
            first += 0.1 * (gradient - first)
            second += 0.001 * (np.square(gradient) - second)
            weight -= rate * first / (np.sqrt(second) + 1e-8)


def _initial(rng: np.random.Generator, train: Pairs, hidden: int) -> list[Floats]:
    size, out = train.new.shape[1], train.old.shape[1]
    inner = rng.normal(0, (2 / size) ** 0.5, (size, hidden)).astype(np.float32)
    return [inner, np.zeros(hidden, np.float32), np.zeros((hidden, out), np.float32)]


def _batches(rng: np.random.Generator, size: int) -> Iterator[NDArray[np.intp]]:
    order = rng.permutation(size)
    for start in range(0, size, BATCH):
        yield order[start : start + BATCH]


def _gradients(weights: list[Floats], pairs: Pairs, base: Floats) -> list[Floats]:
    """Of the mean loss by inner, bias, outer: 1 - cosine, or half the squared error where length counts."""
    inner, bias, outer = weights
    hidden = np.maximum(pairs.new @ inner + bias, 0)
    mapped = base + hidden @ outer
    by_mapped = _by_mapped(mapped, pairs) / np.float32(len(pairs))
    by_hidden = (by_mapped @ outer.T) * (hidden > 0)
    return [pairs.new.T @ by_hidden, by_hidden.sum(axis=0), hidden.T @ by_mapped]


def _by_mapped(mapped: Floats, pairs: Pairs) -> Floats:
    if pairs.old_similarity != "cosine":
        return mapped - pairs.old
    length = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
    direction = mapped / length
    cosine = (direction * pairs.old).sum(axis=1, keepdims=True)
    return np.asarray((cosine * direction - pairs.old) / length, np.float32)
