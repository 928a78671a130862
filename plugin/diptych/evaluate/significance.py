"""Paired tests on per-query differences, float64 `[n]`: sign-flip randomisation, bootstrap, Holm's correction.

Sources: Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval
evaluation", CIKM 2007; Efron and Tibshirani, "An introduction to the bootstrap", 1993; Hesterberg, "What teachers
should know about the bootstrap", The American Statistician, 2015 (expanded percentiles); Holm, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics, 1979; Clopper and Pearson, "The use of
confidence or fiducial limits illustrated in the case of the binomial", Biometrika, 1934 (exact bounds).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.evaluate._extras import load

Doubles: TypeAlias = NDArray[np.float64]

_EXACT = 16  # up to this many differences that are not 0, all 2**n signs are tried
_CELLS = 4_000_000  # of one block of draws: 32 MB of float64


def randomization_p_value(differences: Doubles, *, samples: int, seed: int) -> float:
    """Two-sided p-value of "the mean difference is 0" under random signs.

    Exact when at most 16 differences are not 0; else over `samples` draws, `(hits + 1) / (samples + 1)`, so never 0.
    """
    changed = differences[differences != 0]
    bound = abs(changed.sum()) - _slack(changed)
    if len(changed) <= _EXACT:
        return float(np.mean(np.abs(_all_signed_sums(changed)) >= bound))
    hits = sum(int((np.abs(sums) >= bound).sum()) for sums in _signed_sums(changed, samples, seed))
    return (hits + 1) / (samples + 1)


def bootstrap_means(differences: Doubles, *, samples: int, seed: int) -> Doubles:
    """Means of `samples` resamples of the differences with replacement, float64 `[samples]`."""
    rng, size = np.random.default_rng(seed), len(differences)
    draws = (differences[rng.integers(0, size, (rows, size))].mean(axis=1) for rows in _blocks(samples, size))
    return np.concatenate(list(draws))


def bootstrap_p_value(differences: Doubles, means: Doubles) -> float:
    """Two-sided p-value of "the mean difference is 0": how often a resample strays as far from the observed mean."""
    observed = differences.mean()
    bound = abs(observed) - _slack(differences) / len(differences)
    return float((np.sum(np.abs(means - observed) >= bound) + 1) / (len(means) + 1))


def difference_interval(differences: Doubles, means: Doubles, *, confidence: float) -> tuple[float, float]:
    """The interval of the mean of two differences or more between -1 and 1, from their resampled `means`.

    If all differences are equal, so are their resamples. Then the interval assumes that the exact upper bound of the
    share of other queries has the least, or the greatest, possible difference.

    Raises:
        MissingExtra: scipy is not installed.
    """
    if np.ptp(differences):
        return percentile_interval(means, size=len(differences), confidence=confidence)
    first, most = float(differences[0]), max(1.0, abs(float(differences[0])))
    _, others = clopper_pearson(0, len(differences), tail=(1 - confidence) / 2)
    return first - others * (most + first), first + others * (most - first)


def percentile_interval(means: Doubles, *, size: int, confidence: float) -> tuple[float, float]:
    """The interval that holds the true mean `confidence` of the time, from resampled means of `size` >= 2 values.

    Hesterberg's expanded percentiles: plain ones, of 30 queries, cover 91% where they say 95%.

    Raises:
        MissingExtra: scipy is not installed.
    """
    special = load("scipy.special", purpose="an interval")
    deviations = special.stdtrit(size - 1, (1 + confidence) / 2) * (size / (size - 1)) ** 0.5
    tail = float(special.ndtr(-deviations))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def clopper_pearson(count: int, size: int, *, tail: float) -> tuple[float, float]:
    """Exact bounds of a share, given `count` of `size` observed; each fails with probability `tail` at most."""
    return 1 - _highest_share(size - count, size, tail), _highest_share(count, size, tail)


def _highest_share(count: int, size: int, tail: float) -> float:
    """The share at which `count` or fewer of `size` are observed with probability `tail`, by bisection."""
    if count >= size:
        return 1.0
    ways = [math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1) for k in range(count + 1)]
    seen, low, high = np.arange(count + 1), count / size, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        logs = np.array(ways) + seen * math.log(middle) + (size - seen) * math.log1p(-middle)
        low, high = (middle, high) if np.exp(logs).sum() > tail else (low, middle)
    return high


def holm_comparisons(p_values: Sequence[float]) -> list[int]:
    """The number of comparisons by which Holm corrects each p-value: all for the least, 1 for the greatest."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    return [len(p_values) - order.index(index) for index in range(len(p_values))]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the order given: below alpha exactly where Holm's step-down procedure rejects."""
    adjusted, largest, compared = [0.0] * len(p_values), 0.0, holm_comparisons(p_values)
    for index in sorted(range(len(p_values)), key=lambda index: -compared[index]):
        largest = max(largest, min(1.0, p_values[index] * compared[index]))
        adjusted[index] = largest
    return adjusted


def _slack(values: Doubles) -> float:
    """Tolerance for sums that differ only by rounding."""
    return 1e-12 * float(np.abs(values).sum())


def _all_signed_sums(values: Doubles) -> Doubles:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _signed_sums(values: Doubles, samples: int, seed: int) -> Iterator[Doubles]:
    """Blocks of sums, each value's sign drawn anew: twice the sum of a random half, less the whole."""
    rng, whole = np.random.default_rng(seed), values.sum()
    for rows in _blocks(samples, len(values)):
        yield 2 * (rng.integers(0, 2, (rows, len(values)), np.int8) @ values) - whole


def _blocks(samples: int, size: int) -> Iterator[int]:
    """Numbers of draws that add up to `samples`, each small enough for memory."""
    most = max(1, _CELLS // max(1, size))
    while samples > 0:
        yield min(most, samples)
        samples -= most
