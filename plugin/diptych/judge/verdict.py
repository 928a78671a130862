"""`Verdict`: what a comparison by judgements shows so far, with an interval that is valid at any stopping point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from diptych.judge.confidence import confidence_sequence
from diptych.repr_html import ReprHtml

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
