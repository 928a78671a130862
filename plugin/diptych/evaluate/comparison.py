"""`compare`: is a run really better than the baseline, and by how much?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from diptych.errors import EvaluationError
from diptych.evaluate.scoring import Evaluation
from diptych.evaluate.significance import (
    Doubles,
    bootstrap_means,
    bootstrap_p_value,
    difference_interval,
    holm,
    holm_comparisons,
    randomization_p_value,
)
from diptych.repr_html import ReprHtml
from diptych.runtime.validation_messages import nearest

Method: TypeAlias = Literal["randomization", "bootstrap"]
_EQUAL = 1e-9  # values of one query nearer than this are a tie


@dataclass(frozen=True, slots=True)
class Difference:
    """One run against the baseline, query by query.

    Args:
        name: the run's name.
        mean: the effect: mean of run minus baseline; above 0 the run is better.
        low, high: the interval of the mean, corrected like `adjusted`: at Holm's level for this difference.
        p_value: two-sided, of "the mean difference is 0", for this comparison alone.
        adjusted: the p-value after Holm's correction over all differences of the comparison.
        wins, ties, losses: queries on which the run is better than, equal to, worse than the baseline.
        per_query: run minus baseline for each query.
    """

    name: str
    mean: float
    low: float
    high: float
    p_value: float
    adjusted: float
    wins: int
    ties: int
    losses: int
    per_query: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison(ReprHtml):
    """Several runs against one baseline by one metric; `differences` in the order of the evaluations."""

    metric: str
    baseline: str
    method: Method
    seed: int
    samples: int
    confidence: float
    differences: tuple[Difference, ...]

    @property
    def alpha(self) -> float:
        """The level at which adjusted p-values are called significant: 1 - confidence."""
        return round(1 - self.confidence, 12)

    def significant(self, name: str) -> bool:
        """Whether run `name` differs from the baseline at level `alpha`, corrected for the number of comparisons."""
        return self.of(name).adjusted < self.alpha

    def of(self, name: str) -> Difference:
        """The difference of run `name`.

        Raises:
            EvaluationError: the comparison has no such run.
        """
        for difference in self.differences:
            if difference.name == name:
                return difference
        names = ", ".join(difference.name for difference in self.differences)
        raise EvaluationError(f"nothing compares {name!r} with {self.baseline!r}", expected=names)

    def sentence(self, name: str) -> str:
        """The verdict on run `name` in words, with its figures.

        Raises:
            EvaluationError: the comparison has no such run.
        """
        found, queries = self.of(name), len(self.of(name).per_query)
        if not found.wins and not found.losses:
            return f"{name} and {self.baseline} have the same {self.metric} on each of {queries} queries"
        figures = f"{self.metric} {found.mean:+z.3f} [{found.low:+z.3f}, {found.high:+z.3f}]"
        test = f"{100 * self.confidence:g}% interval, {queries} queries, p = {found.adjusted:.4f}"
        if not self.significant(name):
            return f"{name} is not shown to be better or worse than {self.baseline}: {figures}, {test}"
        return f"{name} is {'better' if found.mean > 0 else 'worse'} than {self.baseline}: {figures}, {test}"

    def describe(self) -> str:
        """How the p-values were computed, in one line."""
        test = {"randomization": "randomisation test", "bootstrap": "bootstrap test"}[self.method]
        count = len(self.differences)
        holm_text = f", Holm-corrected over {count} comparisons" if count > 1 else ""
        return f"two-sided paired {test}, {self.samples} samples{holm_text}"


def compare(
    evaluations: Sequence[Evaluation],
    baseline: str,
    metric: str,
    *,
    method: Method = "randomization",
    seed: int = 0,
    samples: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Each other evaluation against the one named `baseline`, by `metric`, over the same judged queries.

    The interval is from bootstrap percentiles whatever the method, or exact where all differences are equal. The
    p-value comes from random sign flips (`randomization`) or from the centred bootstrap. Of a run's figures only the
    interval and the adjusted p-value, both by Holm's procedure, depend on which other runs are there.

    Raises:
        EvaluationError: unknown baseline, metric or method; evaluations over different queries or fewer than 2; a name
            used twice; nothing to compare with.
        MissingExtra: scipy is not installed.
    """
    _check_options(method, samples, confidence)
    base, others = _baseline_and_others(evaluations, baseline)
    per_query = [_per_query(other, base, metric) for other in others]
    values = [np.array(list(gaps.values()), np.float64) for gaps in per_query]
    means = [bootstrap_means(gaps, samples=samples, seed=seed) for gaps in values]
    p_values = [_p_value(*pair, method, samples, seed) for pair in zip(values, means, strict=True)]
    adjusted, compared = holm(p_values), holm_comparisons(p_values)
    # Holm's procedure stops at the first that is not significant: all after it are compared at its level.
    stopped = max((n for n, p_value in zip(compared, adjusted, strict=True) if p_value > 1 - confidence), default=1)
    differences = []
    for row, other in enumerate(others):
        level = 1 - (1 - confidence) / max(compared[row], stopped)
        low, high = difference_interval(values[row], means[row], confidence=level)
        wins, losses = int((values[row] > 0).sum()), int((values[row] < 0).sum())
        differences.append(
            Difference(
                name=other.name,
                mean=float(values[row].mean()),
                low=low,
                high=high,
                p_value=p_values[row],
                adjusted=adjusted[row],
                wins=wins,
                ties=len(values[row]) - wins - losses,
                losses=losses,
                per_query=per_query[row],
            )
        )
    return Comparison(metric, baseline, method, seed, samples, confidence, tuple(differences))


def _p_value(values: Doubles, means: Doubles, method: Method, samples: int, seed: int) -> float:
    if method == "bootstrap":
        return bootstrap_p_value(values, means)
    return randomization_p_value(values, samples=samples, seed=seed)


def _per_query(run: Evaluation, base: Evaluation, metric: str) -> dict[str, float]:
    ours, theirs = run.values(metric), base.values(metric)
    lonely = ours.keys() ^ theirs.keys()
    if lonely:
        raise EvaluationError(
            f"{run.name!r} and {base.name!r} were evaluated over different queries",
            got=f"{len(lonely)} queries that only one has, such as {min(lonely)!r}",
            do="evaluate both with the same qrels",
        )
    if len(theirs) < 2:
        raise EvaluationError(
            "one query is not enough for a comparison", got=f"{len(theirs)} judged queries", expected="at least 2"
        )
    gaps = {query: ours[query] - theirs[query] for query in theirs}
    return {query: 0.0 if abs(gap) < _EQUAL else gap for query, gap in gaps.items()}


def _baseline_and_others(evaluations: Sequence[Evaluation], baseline: str) -> tuple[Evaluation, list[Evaluation]]:
    names = [evaluation.name for evaluation in evaluations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EvaluationError("two evaluations have one name", got=", ".join(twice), do="give each run its own name")
    if baseline not in names:
        known = ", ".join(names) or "evaluations"
        raise EvaluationError(f"there is no evaluation {baseline!r}", expected=known, do=nearest(baseline, names))
    if len(names) < 2:
        raise EvaluationError(f"there is nothing to compare with {baseline!r}", expected="two evaluations or more")
    others = [evaluation for evaluation in evaluations if evaluation.name != baseline]
    return evaluations[names.index(baseline)], others


def _check_options(method: str, samples: int, confidence: float) -> None:
    if method not in get_args(Method):
        raise EvaluationError("unknown test", got=repr(method), expected=" | ".join(get_args(Method)))
    if samples < 100:
        raise EvaluationError("too few samples for a test", got=samples, expected="at least 100, better 10000")
    if not 0 < confidence < 1:
        raise EvaluationError("the confidence is not a share", got=confidence, expected="between 0 and 1, such as 0.95")
