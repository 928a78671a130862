"""`evaluate`: how well a run answers judged queries, by query and on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.errors import EvaluationError
from diptych.evaluate._extras import load
from diptych.evaluate.metric_names import DEFAULT_METRICS, cutoff, parse_metrics
from diptych.evaluate.qrels import Qrels
from diptych.evaluate.ranking_order import ordered, rank_scores
from diptych.repr_html import ReprHtml
from diptych.types import Run


@dataclass(frozen=True, slots=True)
class Evaluation(ReprHtml):
    """Values of one run: `per_query[metric][query id]`. Every judged query counts, answered or not.

    Args:
        name: the run's name.
        per_query: for each metric, in the order asked for, the value of each judged query, in the order of the qrels.
        unanswered: judged queries for which the run has no document; each counts as 0.
        unjudged: queries of the run without judgements; they count nowhere.
        without_relevant: judged queries that have no relevant document; each counts as 0, as in trec_eval.
        depth: length of the run's longest ranking.
        foreign: a hit and a judged document where no hit is judged for any query: their ids may not be the same.
    """

    name: str
    per_query: Mapping[str, Mapping[str, float]]
    unanswered: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    without_relevant: tuple[str, ...] = ()
    depth: int = 0
    foreign: tuple[str, str] | None = None
    means: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        means = {metric: float(sum(values.values())) / len(values) for metric, values in self.per_query.items()}
        object.__setattr__(self, "means", means)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, as they were asked for."""
        return tuple(self.per_query)

    @property
    def queries(self) -> tuple[str, ...]:
        """Ids of the judged queries."""
        return tuple(next(iter(self.per_query.values())))

    def values(self, metric: str) -> Mapping[str, float]:
        """`{query id: value}` of one metric.

        Raises:
            EvaluationError: the metric was not computed.
        """
        if metric not in self.per_query:
            raise EvaluationError(
                f"{self.name!r} has no values of {metric!r}",
                got=", ".join(self.metrics),
                do=f"name {metric!r} in metrics when evaluating",
            )
        return self.per_query[metric]

    def remarks(self) -> list[str]:
        """What a reader of the means should know, one sentence each; may be empty."""
        deeper = [metric for metric in self.metrics if self.depth < (cutoff(metric) or 0)]
        counts = (
            (len(self.unanswered), "judged queries have no answer and count as 0"),
            (len(self.unjudged), "queries have no judgements and are left out"),
            (len(self.without_relevant), "judged queries have no relevant document and count as 0"),
        )
        remarks = [f"{self.name}: {count} {what}" for count, what in counts if count]
        if self.foreign:
            hit, judged = self.foreign
            remarks.append(
                f"{self.name}: no hit has a judgement. A hit is {hit!r}, a judged document {judged!r}: "
                "judgements must name the ids of the collection's documents"
            )
        if deeper:
            remarks.append(f"{self.name}: rankings end at rank {self.depth}, above the cutoff of {', '.join(deeper)}")
        return remarks


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """The values of `run` on each judged query, computed by ir-measures.

    nDCG has gains equal to the grades and log2 discounts; the other default metrics count grades of 1 or more as
    relevant. Ties are broken for each measure as ir-measures' provider does, which for `MRR@k` is MS MARCO's script;
    see `diptych.evaluate.ranking_order.ordered`.

    Raises:
        EvaluationError: an unknown metric, a document twice in a ranking, a score that is NaN, or no query in common.
        MissingExtra: ir-measures is not installed.
    """
    measures = parse_metrics(metrics)
    rankings, answered = _ranked(run, greatest_first=True)
    _check_overlap(run, qrels)
    script = [measure for measure in dict.fromkeys(measures.values()) if _by_script(measure)]
    others = [measure for measure in dict.fromkeys(measures.values()) if not _by_script(measure)]
    found = _compute(others, qrels, answered)
    if script:
        found |= _compute(script, qrels, _ranked(run, greatest_first=False)[1])
    return Evaluation(
        run.name,
        {name: {query: found[str(measure), query] for query in qrels.queries} for name, measure in measures.items()},
        unanswered=tuple(query for query in qrels.queries if query not in answered),
        unjudged=tuple(query for query in rankings if query not in qrels.judgements),
        without_relevant=qrels.without_relevant,
        depth=max(map(len, answered.values()), default=0),
        foreign=_foreign(answered, qrels),
    )


def _foreign(answered: Mapping[str, list[str]], qrels: Qrels) -> tuple[str, str] | None:
    """A hit and a judged document if no hit is judged for any query."""
    judged = dict.fromkeys(document for grades in qrels.judgements.values() for document in grades)
    hits = [document for query, ranking in answered.items() if query in qrels.judgements for document in ranking]
    if not hits or not judged or not judged.keys().isdisjoint(hits):
        return None
    return hits[0], next(iter(judged))


def _ranked(run: Run, *, greatest_first: bool) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The documents of each query, best first, and of those queries alone that have any."""
    rankings = {
        query: ordered(ranking, where=f"run {run.name!r}, query {query!r}", greatest_first=greatest_first)
        for query, ranking in run.rankings.items()
    }
    return rankings, {query: ranking for query, ranking in rankings.items() if ranking}


def _by_script(measure: Any) -> bool:
    """Whether MS MARCO's script computes it, which orders equal scores by rising ids."""
    return measure.NAME == "RR" and "cutoff" in measure.params


def _check_overlap(run: Run, qrels: Qrels) -> None:
    """A run and judgements that share no query come from two data sets."""
    if qrels.judgements.keys() & run.rankings.keys():
        return
    raise EvaluationError(
        f"run {run.name!r} and the judgements share no query",
        where=qrels.source,
        got=f"queries {', '.join(list(run.rankings)[:3]) or 'none'}",
        expected=f"queries such as {', '.join(qrels.queries[:3]) or 'none: the qrels are empty'}",
        do="give the queries of the run their ids, and use run and qrels of one data set",
    )


def _compute(measures: list[object], qrels: Qrels, answered: Mapping[str, list[str]]) -> dict[tuple[str, str], float]:
    """`{(measure, query): value}`; ir-measures itself fills in judged queries that have no answer."""
    ir_measures = load("ir_measures", purpose="evaluation")
    if not measures:
        return {}
    judged = {query: dict(grades) for query, grades in qrels.judgements.items()}
    scores = {query: rank_scores(ranking) for query, ranking in answered.items() if query in judged}
    values = ir_measures.iter_calc(measures, judged, scores)
    return {(str(value.measure), value.query_id): float(value.value) for value in values}
