"""`compare`: is a run really better than the baseline, and by how much? Over all queries, and in slices of them.

Sources: Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval
evaluation", CIKM 2007; Efron and Tibshirani, "An introduction to the bootstrap", 1993; Hesterberg, "What teachers
should know about the bootstrap", The American Statistician, 2015 (expanded percentiles); Holm, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics, 1979; Clopper and Pearson, "The use of
confidence or fiducial limits illustrated in the case of the binomial", Biometrika, 1934 (exact bounds).
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.display import Display, Displayed, Mood, Table, differences, json_text
from diptych.errors import EvaluationError
from diptych.evaluate.scoring import Doubles, Evaluation, blocks_of_draws, bootstrap_means, percentile_interval
from diptych.runtime.validation_messages import nearest
from diptych.types import Query

_BETTER, _WORSE = "▲", "▼"

_EXACT = 16  # up to this many differences that are not 0, all 2**n signs are tried

LENGTH, LANGUAGE = "length", "language"
LEAST = 10  # queries of a slice; smaller ones say nothing and are left out
SHORT, MEDIUM = 2, 5  # words

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
class Comparison(Displayed):
    """Several runs against one baseline by one metric; `differences` in the order of the evaluations."""

    metric: str
    baseline: str
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

    def display(self) -> Display:
        """Each run against the baseline: the verdicts, the intervals, and wins, ties and losses."""
        cells = differences([(own.mean, own.low, own.high) for own in self.differences])
        rows = [
            (own.name, *texts, f"{own.adjusted:.4f}", str(own.wins), str(own.ties), str(own.losses))
            for own, texts in zip(self.differences, cells, strict=True)
        ]
        level = f"{100 * self.confidence:g}% interval"
        columns = ("run", f"{self.metric} minus that of {self.baseline}", level, "p", "wins", "ties", "losses")
        better = {own.mean > 0 for own in self.differences if self.significant(own.name)}
        mood: Mood = "neutral" if not better else "bad" if False in better else "good"
        first, *others = [self.sentence(own.name) for own in self.differences]
        about = f"{self.describe()}; bootstrap intervals at the same level"
        return Display(first, [*others, Table(columns, rows, numbers=range(1, 7)), about], mood=mood)

    def describe(self) -> str:
        """How the p-values were computed, in one line."""
        count = len(self.differences)
        holm_text = f", Holm-corrected over {count} comparisons" if count > 1 else ""
        return f"two-sided paired randomisation test, {self.samples} samples{holm_text}"


def compare(
    evaluations: Sequence[Evaluation],
    baseline: str,
    metric: str,
    *,
    seed: int = 0,
    samples: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Each other evaluation against the one named `baseline`, by `metric`, over the same judged queries.

    The interval is from bootstrap percentiles, or exact where all differences are equal; the p-value comes from random
    sign flips. Of a run's figures only the interval and the adjusted p-value, both by Holm's procedure, depend on which
    other runs are there.

    Raises:
        EvaluationError: unknown baseline or metric; evaluations over different queries or fewer than 2; a name
            used twice; nothing to compare with.
        MissingExtra: scipy is not installed.
    """
    if samples < 100:
        raise EvaluationError("too few samples for a test", got=samples, expected="at least 100, better 10000")
    if not 0 < confidence < 1:
        raise EvaluationError("the confidence is not a share", got=confidence, expected="between 0 and 1, such as 0.95")
    names = [evaluation.name for evaluation in evaluations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EvaluationError("two evaluations have one name", got=", ".join(twice), do="give each run its own name")
    if baseline not in names:
        known = ", ".join(names) or "evaluations"
        raise EvaluationError(f"there is no evaluation {baseline!r}", expected=known, do=nearest(baseline, names))
    if len(names) < 2:
        raise EvaluationError(f"there is nothing to compare with {baseline!r}", expected="two evaluations or more")
    base = evaluations[names.index(baseline)]
    others = [evaluation for evaluation in evaluations if evaluation is not base]
    per_query = [_per_query(other, base, metric) for other in others]
    values = [np.array(list(gaps.values()), np.float64) for gaps in per_query]
    p_values = [randomization_p_value(gaps, samples=samples, seed=seed) for gaps in values]
    adjusted, compared = holm(p_values), holm_comparisons(p_values)
    # Holm's procedure stops at the first that is not significant: all after it are compared at its level.
    stopped = max((n for n, p_value in zip(compared, adjusted, strict=True) if p_value > 1 - confidence), default=1)
    differences = []
    for row, other in enumerate(others):
        level = 1 - (1 - confidence) / max(compared[row], stopped)
        low, high = interval(values[row], confidence=level, samples=samples, seed=seed)
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
    return Comparison(metric, baseline, seed, samples, confidence, tuple(differences))


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


@dataclass(frozen=True, slots=True)
class Slice:
    """One group of the judged queries.

    Args:
        by: what groups them: `length`, `language`, or a metadata field.
        value: of this group, such as `1 to 2 words`.
        queries: their ids.
    """

    by: str
    value: str
    queries: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.by} {self.value}"


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """A run against the baseline within one slice; `low` and `high` are corrected for the number of slices."""

    slice: Slice
    mean: float
    low: float
    high: float


def slices_of(
    queries: Sequence[Query], by: Sequence[str], fields: Mapping[str, Mapping[str, str]] | None = None
) -> list[Slice]:
    """The slices of at least 10 queries, for each of `by` in the order of their size.

    `length` counts words. `language` is the query's metadata key `language`, else the script of its letters. Any other
    name is a metadata key of the query, else what `fields` gives for the key and the query's id.
    """
    found = []
    for name in by:
        groups: dict[str, list[str]] = {}
        for query in queries:
            if value := _value_of(query, name, (fields or {}).get(name, {})):
                groups.setdefault(value, []).append(query.id)
        largest = sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        found += [Slice(name, value, tuple(ids)) for value, ids in largest if len(ids) >= LEAST]
    return found


def differences_by_slice(
    difference: Difference, slices: Sequence[Slice], *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> list[SliceDifference]:
    """The difference within each slice, with bootstrap intervals that hold together for all slices (Bonferroni)."""
    each = 1 - (1 - confidence) / max(1, len(slices))
    found = []
    for part in slices:
        values = np.array([difference.per_query[query] for query in part.queries if query in difference.per_query])
        if len(values) >= LEAST:
            low, high = interval(values, confidence=each, samples=samples, seed=seed)
            found.append(SliceDifference(part, float(values.mean()), low, high))
    return found


def _value_of(query: Query, by: str, values: Mapping[str, str]) -> str:
    """The group of a query; empty where it has none."""
    if (own := query.metadata.get(by)) is not None:
        return str(own)
    if by == LENGTH:
        words = len(query.text.split())
        if words <= SHORT:
            return f"1 to {SHORT} words"
        return f"{SHORT + 1} to {MEDIUM} words" if words <= MEDIUM else f"{MEDIUM + 1} or more words"
    if by != LANGUAGE:
        return values.get(query.id, "")
    scripts = Counter(unicodedata.name(one, "?").split()[0].lower() for one in query.text if one.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def randomization_p_value(differences: Doubles, *, samples: int, seed: int) -> float:
    """Two-sided p-value of "the mean difference is 0" under random signs.

    Exact when at most 16 differences are not 0; else over `samples` draws, `(hits + 1) / (samples + 1)`, so never 0.
    """
    changed = differences[differences != 0]
    whole = changed.sum()
    bound = abs(whole) - 1e-12 * float(np.abs(changed).sum())  # sums may differ by rounding
    if len(changed) <= _EXACT:
        sums = np.zeros(1)
        for value in changed:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= bound))
    hits, rng = 0, np.random.default_rng(seed)
    for rows in blocks_of_draws(samples, len(changed)):  # twice the sum of a random half, less the whole
        sums = 2 * (rng.integers(0, 2, (rows, len(changed)), np.int8) @ changed) - whole
        hits += int((np.abs(sums) >= bound).sum())
    return (hits + 1) / (samples + 1)


def interval(differences: Doubles, *, confidence: float, samples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of the mean of two differences or more between -1 and 1.

    If all differences are equal, so are their resamples. Then the interval assumes that the exact upper bound of the
    share of other queries has the least, or the greatest, possible difference.

    Raises:
        MissingExtra: scipy is not installed.
    """
    if np.ptp(differences):
        means = bootstrap_means(differences, samples=samples, seed=seed)
        return percentile_interval(means, size=len(differences), confidence=confidence)
    first, most = float(differences[0]), max(1.0, abs(float(differences[0])))
    _, others = clopper_pearson(0, len(differences), tail=(1 - confidence) / 2)
    return first - others * (most + first), first + others * (most - first)


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


def table(
    evaluations: Sequence[Evaluation], *, comparisons: Sequence[Comparison] = (), title: str = "", digits: int = 3
) -> Display:
    """A row for each evaluation, a column for each metric; as text and in notebooks.

    `comparisons`, one a metric, mark values that differ significantly from the baseline; a note says how.

    Raises:
        EvaluationError: no evaluation, evaluations with different metrics, or two comparisons of one metric.
    """
    if not evaluations:
        raise EvaluationError("no evaluations to show", expected="at least one evaluation")
    metrics, by_metric = evaluations[0].metrics, {comparison.metric: comparison for comparison in comparisons}
    for other in evaluations[1:]:
        if other.metrics != metrics:
            what, got = f"{evaluations[0].name!r} and {other.name!r} have different metrics", ", ".join(other.metrics)
            raise EvaluationError(what, got=got, expected=", ".join(metrics))
    if len(by_metric) != len(comparisons):
        raise EvaluationError("two comparisons use the same metric", got=", ".join(c.metric for c in comparisons))
    rows = [
        (run.name, *(f"{run.means[metric]:.{digits}f}{_mark(by_metric.get(metric), run.name)}" for metric in metrics))
        for run in evaluations
    ]
    listing = Table(("run", *metrics), rows, numbers=range(1, len(metrics) + 1))
    counts = {len(evaluation.queries) for evaluation in evaluations}
    number = str(counts.pop()) if len(counts) == 1 else "different numbers of"
    marks = [
        f"{_BETTER} better, {_WORSE} worse than {found.baseline} (p < {found.alpha:g}; {found.describe()} per metric)"
        for found in comparisons
    ]
    remarks = [remark for evaluation in evaluations for remark in evaluation.remarks()]
    return Display(title, [listing, f"means over {number} judged queries", *dict.fromkeys(marks), *remarks])


def _mark(comparison: Comparison | None, name: str) -> str:
    """Whether the run differs; a space when it is not shown to, so that figures stay aligned."""
    if comparison is None:
        return ""
    shown = [own for own in comparison.differences if own.name == name and comparison.significant(name)]
    return f" {_BETTER if shown[0].mean > 0 else _WORSE}" if shown else "  "


def to_json(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = (), *, per_query: bool = False
) -> str:
    """`to_data` as indented JSON text."""
    return json_text(to_data(evaluations, comparisons, per_query=per_query))


def to_data(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = (), *, per_query: bool = False
) -> dict[str, Any]:
    """`{"evaluations": [...], "comparisons": [...]}` of JSON values; `per_query` adds each query's value."""
    names = ("metric", "baseline", "seed", "samples", "confidence")
    data: dict[str, Any] = {"evaluations": [], "comparisons": []}
    for run in evaluations:
        lists = {name: list(getattr(run, name)) for name in ("unanswered", "unjudged", "without_relevant")}
        own = {"run": run.name, "queries": len(run.queries), "means": dict(run.means), **lists, "depth": run.depth}
        values = {metric: dict(values) for metric, values in run.per_query.items()}
        data["evaluations"].append(own | ({"per_query": values} if per_query else {}))
    for comparison in comparisons:
        differences = []
        for difference in comparison.differences:
            own = {"run": difference.name, "mean": difference.mean, "interval": [difference.low, difference.high]}
            own |= {"p_value": difference.p_value, "adjusted_p_value": difference.adjusted}
            own |= {"significant": comparison.significant(difference.name)}
            own |= {"wins": difference.wins, "ties": difference.ties, "losses": difference.losses}
            differences.append(own | ({"per_query": dict(difference.per_query)} if per_query else {}))
        data["comparisons"].append({name: getattr(comparison, name) for name in names} | {"differences": differences})
    return data
