"""`Judging`: which document to judge next, until the comparison of pipelines is settled.

    judging = Judging(runs, queries, Judgements("judgements"), judge="anna")
    while pair := judging.next():
        judging.record(pair, grade=ask(pair.query.text, pair.document))
    print(judging.verdict().sentence)

A terminal and a web page use the same four calls: `next`, `record`, `undo`, `verdict`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.display import Display, Displayed, Mood, Table, differences
from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, cutoff, evaluate, ordered, parse_metrics
from diptych.types import Query, Run
from diptych_lab.judge.judgements import Grade, Judgements

Doubles: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
STEPS = 1000  # candidate means on either side of 0
_LARGEST_BET = 0.9  # share of the capital that one query may lose
_PRIOR = 0.25 / 4  # variance on the scale from 0 to 1, before the first query
_SLACK = 1e-9
Outcome: TypeAlias = Literal["better", "worse", "equal", "open"]

_NEVER = 1e-300  # weight of a query on which the runs cannot differ


@dataclass(frozen=True, slots=True)
class Pooled:
    """A document to judge for a query, without which pipeline found it and at which rank.

    Args:
        query: with its text.
        document: its id.
        number: place of the query in the order of judging, from 1.
        left: documents of this query that are not judged yet, this one included.
    """

    query: Query
    document: str
    number: int
    left: int


class Judging:
    """A comparison of two or more runs by judgements made during it.

    Queries come in a random order that favours those on which the runs can differ more. The documents of a query are
    the first ranks of all runs, each once, in random order. A query counts once all of them are judged. If all runs
    have the same first ranks, there is nothing to judge.

    Args:
        runs: answers of the pipelines to the queries.
        queries: those that may be judged.
        judgements: where grades are stored; pairs graded there are not judged again.
        judge: who judges.
        baseline: the run to compare with; the first unless given.
        metric: a measure with a cutoff, which is also how deep the runs are pooled.
        seed: seed of the random orders.
        confidence: of the verdict, over all comparisons together.
        margin: differences within it count as equal.
        general: the verdict is about all queries like these, and not only about these. Then every query is equally
            likely to come early, and more judgements are needed.
        complete: continue after the comparison is settled, until all queries are judged.

    Raises:
        EvaluationError: fewer than two runs, no query, a run without one of the queries, a metric without a cutoff.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        queries: Sequence[Query],
        judgements: Judgements,
        *,
        judge: str,
        baseline: str | None = None,
        metric: str = "nDCG@10",
        seed: int = 0,
        confidence: float = 0.95,
        margin: float = 0.0,
        general: bool = False,
        complete: bool = False,
    ) -> None:
        self.judgements, self.judge, self.metric = judgements, judge, metric
        self._names = _names(runs, baseline)
        self._runs, self._error = {run.name: run for run in runs}, (1 - confidence) / (len(runs) - 1)
        self._margin, self._general, self._confidence, self._complete = margin, general, confidence, complete
        pooled = {query.id: Pool.of(query, self._names[0], runs, metric, seed) for query in queries}
        self.queries = _shuffled(queries, {} if general else {name: pool.bound for name, pool in pooled.items()}, seed)
        self._pools = {query.id: pooled[query.id].documents for query in self.queries}
        self._bounds = None if general else [pooled[query.id].bound for query in self.queries]
        self._finished = 0  # queries at the beginning of the order that are judged completely
        self._measured_values: dict[tuple[object, ...], dict[str, float]] = {}
        self._shown: tuple[object, tuple[JudgedDifference, ...]] = (None, ())

    def next(self) -> Pooled | None:
        """The next document to judge; None when the comparison is settled, or everything is judged."""
        drawn = self._drawn()
        if len(drawn) == len(self.queries):
            return None
        if not self._complete and all(difference.outcome != "open" for difference in self._differences(drawn)):
            return None
        query = self.queries[len(drawn)]
        left = self._left(query)
        self.judgements.pool(query.id, self._pools[query.id], judge=self.judge)
        return Pooled(query, left[0], len(drawn) + 1, len(left))

    def record(self, pair: Pooled, grade: Grade) -> None:
        """Record the grade of a pair, 0 to 3; None skips it, and it counts as not relevant, as unjudged documents do.

        Raises:
            EvaluationError: another grade.
        """
        self.judgements.add(pair.query.id, pair.document, grade, judge=self.judge)

    def undo(self) -> bool:
        """Undo this judge's last grade, even one of an earlier session; False if there is none."""
        self._finished = 0
        return self.judgements.undo(judge=self.judge) is not None

    def forget(self) -> None:
        """Look at all queries again: other judges may have undone grades in the same judgements."""
        self._finished = 0

    def pair(self, query: str, document: str) -> Pooled:
        """A pair to judge by its ids, whether it is judged already or not.

        Raises:
            EvaluationError: the query is not one of these, or the document was not pooled for it.
        """
        number = next((n for n, own in enumerate(self.queries, 1) if own.id == query), 0)
        if document not in self._pools.get(query, ()):
            got, expected = f"query {query!r}, document {document!r}", "a pair that `next` gave"
            raise EvaluationError("this pair is not among those to judge", got=got, expected=expected)
        chosen = self.queries[number - 1]
        return Pooled(chosen, document, number, len(self._left(chosen)))

    @property
    def pairs(self) -> tuple[int, int]:
        """How many pairs are judged, and how many there are."""
        pooled = [(query, name) for query, names in self._pools.items() for name in names]
        return sum(self.judgements.is_judged(*pair) for pair in pooled), len(pooled)

    @property
    def pending(self) -> list[tuple[Query, str]]:
        """All pairs that are not judged yet, in the order of judging."""
        return [(query, document) for query in self.queries for document in self._left(query)]

    def verdict(self) -> Verdict:
        """What the queries judged so far show."""
        pairs = [(query.id, name) for query in self.queries for name in self._pools[query.id]]
        pairs = [pair for pair in pairs if self.judgements.is_judged(*pair)]
        grades, drawn = [self.judgements.grade(*pair) for pair in pairs], self._drawn()
        return Verdict(
            metric=self.metric,
            baseline=self._names[0],
            queries=len(self.queries),
            judged=len(drawn),
            judgements=len(pairs),
            skipped=grades.count(None),
            confidence=self._confidence,
            margin=self._margin,
            general=self._general,
            differences=self._differences(drawn),
        )

    def _drawn(self) -> list[Query]:
        """The queries that count: the first ones of the order, up to one that is not judged completely.

        Later ones, judged in an earlier session, do not count: they may not be a random sample.
        """
        while self._finished < len(self.queries) and not self._left(self.queries[self._finished]):
            self._finished += 1
        return self.queries[: self._finished]

    def _differences(self, drawn: Sequence[Query]) -> tuple[JudgedDifference, ...]:
        values = [self._values(query) for query in drawn]
        key = tuple(tuple(by_run.values()) for by_run in values)
        if key != self._shown[0]:
            base, *others = self._names
            series = {name: [by_run[name] - by_run[base] for by_run in values] for name in others}
            sure = partial(difference_of, bounds=self._bounds, error=self._error, margin=self._margin)
            self._shown = key, tuple(sure(name, differences) for name, differences in series.items())
        return self._shown[1]

    def _values(self, query: Query) -> dict[str, float]:
        """The metric of each run for one query."""
        grades = {document: self.judgements.grade(query.id, document) or 0 for document in self._pools[query.id]}
        if not grades:
            return dict.fromkeys(self._runs, 0.0)
        key = (query.id, *grades.values())
        if key in self._measured_values:
            return self._measured_values[key]
        qrels = Qrels({query.id: grades})
        runs = (Run(name, {query.id: run.rankings[query.id]}) for name, run in self._runs.items())
        means = {run.name: evaluate(run, qrels, [self.metric]).means[self.metric] for run in runs}
        for name, value in means.items():
            if not 0 <= value <= 1:
                raise EvaluationError(f"{self.metric} is not from 0 to 1", where=f"run {name!r}", got=value)
        return self._measured_values.setdefault(key, means)

    def _left(self, query: Query) -> list[str]:
        return [name for name in self._pools[query.id] if not self.judgements.is_judged(query.id, name)]


def drawn(queries: Sequence[Query], sample: int, seed: int) -> list[Query]:
    """At most `sample` of the queries, drawn at random; the same ones each time."""
    return list(queries) if len(queries) <= sample else random.Random(seed).sample(queries, sample)


def _names(runs: Sequence[Run], baseline: str | None) -> list[str]:
    """The runs' names, the baseline's first."""
    names = [run.name for run in runs]
    first = baseline or (names[0] if names else "")
    if len(set(names)) < 2 or len(set(names)) < len(names) or first not in names:
        expected = "two or more runs, each with a name of its own, and the baseline among them"
        raise EvaluationError("these runs cannot be compared", got=", ".join(names) or "none", expected=expected)
    return [first, *(name for name in names if name != first)]


def _shuffled(queries: Sequence[Query], bounds: Mapping[str, float], seed: int) -> list[Query]:
    """The queries in a random order: each next one is drawn in proportion to its bound, those without any last.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters, 2006: the
    order of exponential times, each divided by the weight.
    """
    if not queries:
        raise EvaluationError("there is no query to judge", expected="at least one")
    chance = random.Random(seed)
    times = {query.id: chance.expovariate(1) for query in sorted(queries, key=lambda query: query.id)}
    return sorted(queries, key=lambda query: times[query.id] / max(bounds.get(query.id, 1.0), _NEVER))


@dataclass(frozen=True, slots=True)
class Pool:
    """The first ranks of all runs for one query.

    Args:
        documents: each once, in random order; none if all runs have the same documents in the same order.
        bound: the largest possible difference from the baseline by the metric, whatever the grades are.
    """

    documents: tuple[str, ...]
    bound: float

    @classmethod
    def of(cls, query: Query, baseline: str, runs: Sequence[Run], metric: str, seed: int) -> Pool:
        """The pool of `query` as deep as the cutoff of `metric`.

        Raises:
            EvaluationError: the metric has no cutoff or is unknown, or a run lacks the query.
        """
        parse_metrics([metric])
        depth, rankings = cutoff(metric), dict[str, list[str]]()
        if not depth:
            expected = "a measure with a cutoff, such as nDCG@10, which is how deep runs are judged"
            raise EvaluationError(f"{metric} reads all ranks", expected=expected)
        for run in runs:
            if query.id not in run.rankings:
                what = f"run {run.name!r} has no answer to query {query.id!r}"
                raise EvaluationError(what, expected="an answer, which may be empty")
            where = f"run {run.name!r}, query {query.id!r}"
            rankings[run.name] = ordered(run.rankings[query.id], where=where)[:depth]
        base = rankings[baseline]
        if all(ranking == base for ranking in rankings.values()):
            return cls((), 0.0)
        documents = sorted({document for ranking in rankings.values() for document in ranking})
        random.Random(f"{seed} {query.id}").shuffle(documents)
        is_ndcg = metric.startswith("nDCG@")
        return cls(tuple(documents), max(_most(base, ranking) for ranking in rankings.values()) if is_ndcg else 1.0)


def _most(one: Sequence[str], other: Sequence[str]) -> float:
    """The largest possible difference of two rankings by nDCG.

    nDCG is a ratio of sums over gains, and the ideal ranking sorts them. So for some k the extreme has equal gains for
    the k documents whose discounts differ most, and none for all others.
    """
    depth = max(len(one), len(other))
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    places = [dict(zip(ranking, discounts, strict=False)) for ranking in (one, other)]
    gaps = np.array([places[0].get(name, 0.0) - places[1].get(name, 0.0) for name in {**places[0], **places[1]}])
    ideal = np.cumsum(discounts)
    largest = (np.sort(signed)[::-1][:depth] for signed in (gaps, -gaps))
    return min(1.0, max(float((np.cumsum(extreme) / ideal[: len(extreme)]).max()) for extreme in largest))


@dataclass(frozen=True, slots=True)
class JudgedDifference:
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
class Verdict(Displayed):
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
    differences: tuple[JudgedDifference, ...]

    @property
    def is_settled(self) -> bool:
        """Whether every run has an outcome. The chance that all judgements give another is at most 1 - confidence."""
        return all(difference.outcome != "open" for difference in self.differences)

    @property
    def sentence(self) -> str:
        """The outcome in words, one line for each run."""
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        count = f"{self.judgements} judgements{skipped}, {self.judged} of {self.queries} queries"
        scope = "for all queries like these" if self.general else f"on these {self.queries} queries"
        level = f"{100 * self.confidence:g}% at any stopping point"
        equal = f"is within {self.margin:g} of" if self.margin else "is equal to"
        words = {
            "equal": equal,
            "open": "cannot yet be told from",
            "better": "is better than",
            "worse": "is worse than",
        }
        lines = [
            f"{own.name} {words[own.outcome]} {self.baseline} {scope}: "
            f"{self.metric} {own.mean:+z.3f} [{own.low:+z.3f}, {own.high:+z.3f}] ({level})"
            for own in self.differences
        ]
        return "\n".join([count, *lines])

    def display(self) -> Display:
        """What judgements show so far."""
        count, *lines = self.sentence.splitlines()
        settled = "settled" if self.is_settled else "not settled"
        cells = differences([(own.mean, own.low, own.high) for own in self.differences])
        rows = [(own.name, own.outcome, *texts) for own, texts in zip(self.differences, cells, strict=True)]
        outcomes = {own.outcome for own in self.differences}
        mood: Mood = "good" if outcomes == {"better"} else "bad" if outcomes == {"worse"} else "neutral"
        columns = ("run", "", self.metric, f"{100 * self.confidence:g}% interval")
        return Display(f"{settled}: {count}", [*lines, Table(columns, rows, numbers=(2, 3))], mood=mood)


def difference_of(
    name: str, values: Sequence[float], bounds: Sequence[float] | None, *, error: float, margin: float
) -> JudgedDifference:
    """The difference of a run, from its values minus the baseline's, as `confidence_sequence` takes them."""
    low, high = confidence_sequence(values, bounds=bounds, error=error)
    outcome: Outcome = "better" if low > 0 else "worse" if high < 0 else "open"
    if low >= -margin and high <= margin:
        outcome = "equal"
    return JudgedDifference(name, _mean(values, bounds), low, high, outcome)


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
    left = np.ones(len(values) + 1)
    if bounds is not None:  # the sum of the bounds of the queries not drawn yet, before each draw and after the last
        left = np.cumsum(np.array([*bounds, 0.0])[::-1])[::-1][: len(values) + 1]
    count = len(bounds) if bounds is not None else 1
    means = np.linspace(-1, 1, 2 * STEPS + 1) * left[0] / count
    alive = _never_rejected(values, means * count, left if bounds is not None else None, count, error)
    # The smallest interval that contains all remaining means, widened by one step on each side.
    remaining, step = means[alive], means[1] - means[0]
    low, high = float(means[0]), float(means[-1])
    if len(remaining):  # else the rare event: every mean was rejected
        low, high = max(low, float(remaining[0] - step)), min(high, float(remaining[-1] + step))
    if bounds is not None:
        total = math.fsum(values)
        low, high = max(low, (total - left[-1]) / count), min(high, (total + left[-1]) / count)
        if left[-1] < _SLACK:
            low = high = total / count
    return (0.0 if abs(low) < _SLACK else low), (0.0 if abs(high) < _SLACK else high)  # 0 if it is only noise


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
    for number, value in enumerate(values):
        scale = left[number] - left[number + 1] if left is not None else 1.0
        if scale < _SLACK:  # the runs cannot differ on this query
            continue
        rest = (sums - total) / left[number] if left is not None else sums
        observed, expected = (value / scale + 1) / 2, (np.clip(rest, -1 + _SLACK, 1 - _SLACK) + 1) / 2
        horizon = count / 2 if left is not None else (number + 1) * math.log(2 + number)
        bet = math.sqrt(2 * math.log(2 / error) / (max(squares / (number + 1), _SLACK) * horizon))
        up, down = np.minimum(bet, _LARGEST_BET / expected), np.minimum(bet, _LARGEST_BET / (1 - expected))
        capital += np.log1p(np.stack([up * (observed - expected), -down * (observed - expected)]))
        alive &= (capital.max(axis=0) < math.log(2 / error)) & (np.abs(rest) <= 1 + _SLACK)
        total, shown = total + value, shown + observed
        squares += (observed - (shown + 0.5) / (number + 2)) ** 2
    return alive
