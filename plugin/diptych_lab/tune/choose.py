"""Chooses a trial by judged queries: nested cross-validation, the simplest within one standard error, and a gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import le
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.evaluate.comparison import interval
from diptych_lab.tune.slot_candidates import Doubles
from diptych_lab.tune.trials import Trial

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
FOLDS, ROUNDS = 5, 4
LEAST = 10  # queries below which nothing is tuned
PRESENT, SINGLE = "the present pipeline", "the best single slot"


@dataclass(frozen=True, slots=True)
class Against:
    """What the tuner's choice gains on queries that did not choose it.

    Args:
        name: name of the baseline.
        mean: held-out nDCG of the choices minus the baseline's.
        low, high: bootstrap interval of the mean.
        needed: queries that would show the gain if it stayed as it is; None where there is no gain or it is shown.
    """

    name: str
    mean: float
    low: float
    high: float
    needed: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial.

    Args:
        index: place of the trial; `start` if no other passes the gate.
        tuned: the trial that the rule chooses on all queries, whether it passes or not.
        passed: whether the tuned one passes.
        gains: held-out gains of the tuned one, against the start and, unless it is that slot, the best single slot.
    """

    index: int
    tuned: int
    passed: bool
    gains: tuple[Against, ...]


def choose(
    values: Doubles,
    trials: Sequence[Trial],
    start: int,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    start_fits: bool = True,
) -> Choice:
    """The trial to search by.

    The queries are divided into five parts, four times over. The rule chooses on four parts, and its choice is measured
    on the fifth, so the gate reads a gain on queries that did not choose. The gate passes if two intervals lie above 0:
    that of the gain over the start, and that of the gain over the best single slot, chosen on the same four parts. If
    the gate does not pass, but that slot alone is shown to beat the start, the slot is taken.

    Args:
        values: `[trials, n]`.
        start: the trial that stays unless another one passes.
        confidence: of the intervals.
        seed: of the divisions.
        start_fits: whether the start may stay; if it exceeds a budget, the rule's choice among the others passes, or
            the best single slot if that is better on held-out queries.
    """
    count = values.shape[1]
    order = simplicity(trials, start)
    if not start_fits and len(trials) > 1:
        order = order[order != start]
    tuned = simplest(values, order)
    if count < LEAST:
        return Choice(start, tuned, False, ())
    chosen_values, single_values = held_out(values, trials, order, seed=seed)
    gains: tuple[Against, ...] = (
        against(PRESENT, chosen_values - values[start], confidence),
        against(SINGLE, chosen_values - single_values, confidence),
    )
    single_gain = against(PRESENT, single_values - values[start], confidence)
    beats_single = trials[tuned].is_single or (gains[1].low if start_fits else gains[1].mean) > 0
    shown = beats_single and (gains[0].low > 0 or not start_fits)
    if not shown and (single_gain.low > 0 or not start_fits):
        tuned, gains, shown = _best_single(values, trials, order), (single_gain,), True
    passed = shown and tuned != start
    return Choice(tuned if passed else start, tuned, passed, gains)


def _best_single(values: Doubles, trials: Sequence[Trial], order: NDArray[np.int64]) -> int:
    singles = [int(place) for place in order if trials[place].is_single]
    return max(singles or [int(order[0])], key=lambda place: float(values[place].mean()))


def simplicity(trials: Sequence[Trial], start: int) -> NDArray[np.int64]:
    """The trials from the simplest on; of equally simple ones the start comes first."""
    keys = [(*trial.complexity, place != start, place) for place, trial in enumerate(trials)]
    return np.array(sorted(range(len(trials)), key=lambda place: keys[place]), np.int64)


def simplest(values: Doubles, order: NDArray[np.int64]) -> int:
    """The first trial in `order` that loses less than one standard error to the best of them.

    Breiman et al., "Classification and Regression Trees", 1984; the error is that of the paired difference.
    """
    ordered = values[order]
    gaps = ordered[ordered.mean(axis=1).argmax()] - ordered
    errors = gaps.std(axis=1, ddof=1) / math.sqrt(values.shape[1]) if values.shape[1] > 1 else np.zeros(len(order))
    return int(order[np.flatnonzero(gaps.mean(axis=1) <= errors)[0]])


def with_front(rows: Sequence[R], costs: Callable[[R], tuple[float, ...]]) -> list[R]:
    """The rows, each marked if it is on the Pareto front: no other costs less somewhere and nowhere more."""
    each = [costs(row) for row in rows]
    return [
        replace(row, front=not any(other != own and all(map(le, other, own)) for other in each))
        for row, own in zip(rows, each, strict=True)
    ]


def held_out(
    values: Doubles, trials: Sequence[Trial], order: NDArray[np.int64], *, seed: int = 0
) -> tuple[Doubles, Doubles]:
    """For each query the value of what the others choose, and of the single slot that they find best, `[n]` each."""
    count = values.shape[1]
    alone = [int(place) for place in order if trials[place].is_single]
    singles = np.array(alone or order[:1], np.int64)  # no single slot if all are too slow
    chosen_values, single = np.zeros(count), np.zeros(count)
    for training, part in folds(count, seed):
        chosen_values[part] += values[simplest(values[:, training], order), part] / ROUNDS
        best = singles[values[singles][:, training].mean(axis=1).argmax()]
        single[part] += values[best, part] / ROUNDS
    return chosen_values, single


def folds(count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Queries to choose by, and those that are held out, so that each is held out in each of `ROUNDS` rounds."""
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        for part in np.array_split(random.permutation(count), min(FOLDS, count)):
            yield np.setdiff1d(np.arange(count), part), part


def against(name: str, gaps: Doubles, confidence: float) -> Against:
    """What held-out gaps `[n]` to the baseline of this name say."""
    mean = float(gaps.mean())
    low, high = interval(gaps, confidence=confidence, samples=5_000)
    is_unclear = mean > 1e-4 and low <= 0
    needed = math.ceil(len(gaps) * ((mean - low) / mean) ** 2) if is_unclear else None
    return Against(name, mean, low, high, needed)
