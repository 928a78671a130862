"""`Verdict`: what a comparison by judgements shows so far, with an interval that is valid at any stopping point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.repr_html import ReprHtml

Doubles: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
STEPS = 1000  # candidate means on either side of 0
_LARGEST_BET = 0.9  # share of the capital that one query may lose
_PRIOR = 0.25 / 4  # variance on the scale from 0 to 1, before the first query
_SLACK = 1e-9

Outcome: TypeAlias = Literal["better", "worse", "equal", "open"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of one run from the baseline.

    Args:
        name: name of the run.
        mean: the estimate of run minus baseline; exact once all queries are judged.
        low, high: interval of the mean.
        outcome: what the interval shows.
    """

    name: str
    mean: float
    low: float
    high: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Verdict(ReprHtml):
    """The comparison of all runs with the baseline. `dataclasses.asdict` gives JSON values.

    Args:
        metric, baseline, confidence, margin: as configured.
        queries: number of queries that may be judged.
        judged: number of queries that count.
        judgements: number of pairs judged.
        skipped: number of pairs that were skipped.
        general: whether the verdict is about all queries like these, and not only about these.
        differences: one for each run other than the baseline.
    """

    metric: str
    baseline: str
    queries: int
    judged: int
    judgements: int
    skipped: int
    confidence: float
    margin: float
    general: bool
    differences: tuple[Difference, ...]

    @property
    def is_settled(self) -> bool:
        """Whether every run has an outcome. The chance that all judgements give another is at most 1 - confidence."""
        return all(difference.outcome != "open" for difference in self.differences)

    @property
    def sentence(self) -> str:
        """The outcome in words, one line for each run."""
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        count = f"{self.judgements} judgements{skipped}, {self.judged} of {self.queries} queries"
        return "\n".join([count, *map(self._line, self.differences)])

    def _line(self, difference: Difference) -> str:
        scope = "for all queries like these" if self.general else f"on these {self.queries} queries"
        figures = f"{self.metric} {difference.mean:+z.3f} [{difference.low:+z.3f}, {difference.high:+z.3f}]"
        level = f"{100 * self.confidence:g}% at any stopping point"
        return f"{difference.name} {self._words(difference.outcome)} {self.baseline} {scope}: {figures} ({level})"

    def _words(self, outcome: Outcome) -> str:
        if outcome == "equal":
            return f"is within {self.margin:g} of" if self.margin else "is equal to"
        return f"is {outcome} than" if outcome != "open" else "cannot yet be told from"


def difference_of(
    name: str, values: Sequence[float], bounds: Sequence[float] | None, *, error: float, margin: float
) -> Difference:
    """The difference of a run, from its values minus the baseline's, as `confidence_sequence` takes them."""
    low, high = confidence_sequence(values, bounds=bounds, error=error)
    return Difference(name, _mean(values, bounds), low, high, _outcome(low, high, margin))


def _mean(values: Sequence[float], bounds: Sequence[float] | None) -> float:
    """The estimate of the mean; with bounds, the average of the estimates of the sum that each draw gives."""
    if not values:
        return 0.0
    if bounds is None or len(values) == len(bounds):
        return math.fsum(values) / len(values)
    sums, total = [], 0.0
    for number, value in enumerate(values):
        left = math.fsum(bounds[number:])
        sums.append(total + (value * left / bounds[number] if bounds[number] else 0.0))
        total += value
    return math.fsum(sums) / len(sums) / len(bounds)


def _outcome(low: float, high: float, margin: float) -> Outcome:
    if low >= -margin and high <= margin:
        return "equal"
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "open"


def confidence_sequence(values: Sequence[float], *, bounds: Sequence[float] | None, error: float) -> Interval:
    """The interval of the mean after these values, in the order in which they were drawn.

    A usual interval is valid for a number of queries that was fixed in advance. Looking after each query and stopping
    at the first good result errs far more often than the interval says. Here the chance that the true mean is outside
    *any* of the intervals, from the first query to the last, is at most `error`.

    Hedged betting: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the
    Royal Statistical Society B 86, 2024. For a finite set of queries, of which those with larger bounds are drawn
    earlier: Shekhar, Xu, Lipton, Liang and Ramdas, "Risk-limiting financial audits via weighted sampling without
    replacement", UAI 2023.

    Args:
        values: differences of queries, each from -1 to 1.
        bounds: how large the difference of each query can be, in the order of drawing, those not drawn yet included:
            the mean is that over all of these queries, drawn without replacement, each with a probability that is
            proportional to its bound. None: the mean is that over all queries that `values` are a random sample of.
        error: the largest chance that the mean is ever outside, such as 0.05.
    """
    left = _left(bounds, len(values)) if bounds is not None else np.ones(len(values) + 1)
    count = len(bounds) if bounds is not None else 1
    means = np.linspace(-1, 1, 2 * STEPS + 1) * left[0] / count
    alive = _never_rejected(values, means * count, left if bounds is not None else None, count, error)
    low, high = _hull(means, alive)
    if bounds is not None:
        total = math.fsum(values)
        low, high = max(low, (total - left[-1]) / count), min(high, (total + left[-1]) / count)
        if left[-1] < _SLACK:
            low = high = total / count
    return _rounded(low), _rounded(high)


def _left(bounds: Sequence[float], drawn: int) -> Doubles:
    """The sum of the bounds of the queries not drawn yet, before each draw and after the last."""
    sums = np.cumsum(np.array([*bounds, 0.0])[::-1])[::-1]
    return sums[: drawn + 1]


def _never_rejected(
    values: Sequence[float], sums: Doubles, left: Doubles | None, count: int, error: float
) -> NDArray[np.bool_]:
    """Which candidate sums no bet has rejected: the capital stayed below 2 / error on either side after each value.

    Without replacement a query is drawn with probability bound / left, so the mean of value / bound is the rest of the
    sum / left.
    """
    alive = np.ones(len(sums), bool)
    capital = np.zeros((2, len(sums)))  # logarithms of the capital that bets on more, and on less
    squares, shown, total = _PRIOR, 0.0, 0.0
    population = count if left is not None else None
    for number, value in enumerate(values):
        scale = left[number] - left[number + 1] if left is not None else 1.0
        if scale < _SLACK:  # the runs cannot differ on this query
            continue
        rest = (sums - total) / left[number] if left is not None else sums
        observed, expected = (value / scale + 1) / 2, (np.clip(rest, -1 + _SLACK, 1 - _SLACK) + 1) / 2
        bet = _bet(squares / (number + 1), number + 1, population, error)
        up, down = np.minimum(bet, _LARGEST_BET / expected), np.minimum(bet, _LARGEST_BET / (1 - expected))
        capital += np.log1p(np.stack([up * (observed - expected), -down * (observed - expected)]))
        alive &= (capital.max(axis=0) < math.log(2 / error)) & (np.abs(rest) <= 1 + _SLACK)
        total, shown = total + value, shown + observed
        squares += (observed - (shown + 0.5) / (number + 2)) ** 2
    return alive


def _bet(variance: float, number: int, population: int | None, error: float) -> float:
    """The bet on value `number`, from the variance of the values before it."""
    horizon = population / 2 if population else number * math.log(1 + number)
    return math.sqrt(2 * math.log(2 / error) / (max(variance, _SLACK) * horizon))


def _hull(means: Doubles, alive: NDArray[np.bool_]) -> Interval:
    """The smallest interval that contains all remaining means, widened by one step on each side."""
    remaining, step = means[alive], means[1] - means[0]
    if not len(remaining):  # the rare event: every mean was rejected
        return float(means[0]), float(means[-1])
    return max(float(means[0]), float(remaining[0] - step)), min(float(means[-1]), float(remaining[-1] + step))


def _rounded(value: float) -> float:
    """The value, 0 if it is only rounding noise."""
    return 0.0 if abs(value) < _SLACK else float(value)
