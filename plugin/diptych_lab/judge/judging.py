"""`Judging`: which document to judge next, until the comparison of pipelines is settled.

    judging = Judging(runs, queries, Judgements("judgements"), judge="anna")
    while pair := judging.next():
        judging.record(pair, grade=ask(pair.query.text, pair.document))
    print(judging.verdict().sentence)

A terminal and a web page use the same four calls: `next`, `record`, `undo`, `verdict`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, evaluate
from diptych.evaluate.runs import ordered
from diptych.evaluate.scoring import cutoff, parse_metrics
from diptych.types import Query, Run
from diptych_lab.judge.judgements import Grade, Judgements
from diptych_lab.judge.verdict import Difference, Verdict, difference_of

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
        self._shown: tuple[object, tuple[Difference, ...]] = (None, ())

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

    def _differences(self, drawn: Sequence[Query]) -> tuple[Difference, ...]:
        values = [self._values(query) for query in drawn]
        key = tuple(tuple(by_run.values()) for by_run in values)
        if key != self._shown[0]:
            base, *others = self._names
            series = {name: [by_run[name] - by_run[base] for by_run in values] for name in others}
            self._shown = key, tuple(self._difference(name, differences) for name, differences in series.items())
        return self._shown[1]

    def _difference(self, name: str, values: Sequence[float]) -> Difference:
        return difference_of(name, values, self._bounds, error=self._error, margin=self._margin)

    def _values(self, query: Query) -> dict[str, float]:
        """The metric of each run for one query."""
        grades = {document: self.judgements.grade(query.id, document) or 0 for document in self._pools[query.id]}
        if not grades:
            return dict.fromkeys(self._runs, 0.0)
        key = (query.id, *grades.values())
        if key not in self._measured_values:
            self._measured_values[key] = self._measured(query, grades)
        return self._measured_values[key]

    def _measured(self, query: Query, grades: Mapping[str, int]) -> dict[str, float]:
        qrels = Qrels({query.id: grades})
        runs = (Run(name, {query.id: run.rankings[query.id]}) for name, run in self._runs.items())
        means = {run.name: evaluate(run, qrels, [self.metric]).means[self.metric] for run in runs}
        for name, value in means.items():
            if not 0 <= value <= 1:
                raise EvaluationError(f"{self.metric} is not from 0 to 1", where=f"run {name!r}", got=value)
        return means

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
        depth = _depth(metric)
        rankings = {run.name: _first(run, query, depth) for run in runs}
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


def _first(run: Run, query: Query, depth: int) -> list[str]:
    if query.id not in run.rankings:
        raise EvaluationError(
            f"run {run.name!r} has no answer to query {query.id!r}", expected="an answer, which may be empty"
        )
    return ordered(run.rankings[query.id], where=f"run {run.name!r}, query {query.id!r}")[:depth]


def _depth(metric: str) -> int:
    parse_metrics([metric])
    depth = cutoff(metric)
    if not depth:
        expected = "a measure with a cutoff, such as nDCG@10, which is how deep runs are judged"
        raise EvaluationError(f"{metric} reads all ranks", expected=expected)
    return depth
