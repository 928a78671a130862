"""Finds a worthwhile amount of data: doubles it until the gain is small, and fits a curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Curve:
    """score = a - b n^-c: `a` is the limit, `c` the speed. `error` is the root mean squared residual."""

    a: float
    b: float
    c: float
    error: float

    def __call__(self, amount: float) -> float:
        """The score at this amount, above 0."""
        return float(self.a - self.b * amount**-self.c)


@dataclass(frozen=True, slots=True)
class Saturation:
    """The measurements by amount, in order, and why it stopped: `gain` or `most`."""

    amounts: tuple[int, ...]
    scores: tuple[float, ...]
    stopped: str

    @property
    def best(self) -> int:
        """The amount with the best score, the smallest among equals."""
        return self.amounts[int(np.argmax(self.scores))]

    @property
    def curve(self) -> Curve | None:
        """The fitted curve; None for fewer than three amounts above 0, which any curve fits."""
        points = [(n, score) for n, score in zip(self.amounts, self.scores, strict=True) if n > 0]
        return fitted([n for n, _ in points], [score for _, score in points]) if len(points) > 2 else None


def doubled(measure: Callable[[int], float], *, start: int, limit: int, gain: float = 0.005) -> Saturation:
    """Measure at `start`, twice that, and so on, until a doubling gains less than `gain` or `limit` would be passed.

    Args:
        measure: gives the score, such as nDCG@10 on dev queries, with this amount of data; a larger amount includes a
            smaller one.
        start, limit: the first amount, and the largest allowed.
        gain: 0.005 is half a point.

    Raises:
        ConfigError: a start below 1 or above `limit`.
    """
    if not 1 <= start <= limit:
        raise ConfigError(
            "the first amount is out of range", where="doubled", got=f"{start} of {limit}", expected="1 <= start"
        )
    amounts, scores, stopped = [start], [measure(start)], "most"
    while 2 * amounts[-1] <= limit:
        amounts.append(2 * amounts[-1])
        scores.append(measure(amounts[-1]))
        if scores[-1] - scores[-2] < gain:
            stopped = "gain"
            break
    return Saturation(tuple(amounts), tuple(scores), stopped)


def fitted(amounts: Sequence[float], scores: Sequence[float]) -> Curve:
    """The least-squares curve with b >= 0 and c between 0.05 and 4: for each c of a grid, a and b in closed form.

    Raises:
        ConfigError: no amounts, not as many scores, or an amount that is not above 0.
    """
    n, y = np.asarray(amounts, np.float64), np.asarray(scores, np.float64)
    if not len(n) or len(n) != len(y) or n.min() <= 0:
        raise ConfigError(
            "no curve can be fitted", where="fitted", got=f"{list(amounts)[:5]}", expected="amounts above 0"
        )
    return min((_at(n, y, c) for c in np.geomspace(0.05, 4, 400)), key=lambda curve: curve.error)


def _at(n: np.ndarray, y: np.ndarray, c: float) -> Curve:
    x = n**-c
    spread = x - x.mean()
    b = max(0.0, -float(spread @ y) / float(spread @ spread)) if spread.any() else 0.0
    a = float(y.mean() + b * x.mean())
    return Curve(a, b, float(c), float(np.sqrt(np.mean((y - a + b * x) ** 2))))
