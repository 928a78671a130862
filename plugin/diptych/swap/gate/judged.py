"""The gate with judgements: the new pipeline must not be worse than the old one by more than a margin.

A non-inferiority test: the paired bootstrap interval of new minus old must lie above minus the margin. Piaggio et al.,
"Reporting of noninferiority and equivalence randomized trials", JAMA 2012, have the interval and its reading.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from diptych.config.models import EvaluateConfig, GateConfig
from diptych.errors import EvaluationError
from diptych.evaluate import (
    Difference,
    Evaluation,
    Qrels,
    SliceDifference,
    compare,
    differences_by_slice,
    evaluate,
    read_queries,
    slices_of,
)
from diptych.evaluate.ask import fields_of_queries, held_documents
from diptych.evaluate.comparison import clopper_pearson
from diptych.evaluate.scoring import cutoff, parse_metrics
from diptych.handle.view import View
from diptych.swap.gate.answers import TOP, Clock, affordable, answers, common_share, fewer, remembering
from diptych.types import Query, Run, said

DEEPEST = 1000  # ranks that a measure without a cutoff reads, as TREC's runs have
QUERIES_SHOWN = 5  # queries that lost most
SEED = 0  # of the queries that are drawn
RESERVE = 1.1  # of the queries that are advised, as the bootstrap's interval is a little wider than the normal one
FEW = 10  # queries that differ, below which their resamples are no bound
SAME = 0.1  # share of all queries that may be answered otherwise, by the exact bound, where no judged one is
LEAST_QUERIES = 2  # judged queries that can be compared at all
Verdict: TypeAlias = Literal["passed", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries with judgements, and the default metric for comparing two pipelines by them."""

    queries: Sequence[Query]
    qrels: Qrels
    metric: str = "nDCG@10"

    @property
    def asked(self) -> list[Query]:
        """The queries that have a relevant document; others would dilute every difference."""
        return [query for query in self.queries if self.qrels.relevant(query.id)]

    @classmethod
    def of(cls, config: EvaluateConfig) -> Judged | None:
        """The judgements that the config's `evaluate` section names; None without queries and qrels.

        Raises:
            EvaluationError: it names only one of the two, or a file cannot be read.
        """
        if config.queries is None and config.qrels is None:
            return None
        if config.queries is None or config.qrels is None:
            missing, there = ("queries", "qrels") if config.queries is None else ("qrels", "queries")
            raise EvaluationError(
                f"evaluate.{there} is named without evaluate.{missing}",
                expected="both, or neither for a gate without judgements",
                do=f"name evaluate.{missing} in the config file",
            )
        return cls(read_queries(config.queries), Qrels.read(config.qrels), next(iter(config.metrics), "nDCG@10"))


@dataclass(frozen=True, slots=True)
class QueryLoss:
    """A query that the new pipeline answers worse."""

    id: str
    text: str
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class JudgedComparison:
    """Old and new pipeline by one metric over the same judged queries.

    Args:
        metric, margin, confidence: as configured.
        queries: judged queries that have a text and a relevant document.
        old, new: means of the metric.
        difference: new minus old.
        low, high: paired bootstrap interval of the difference.
        wins, ties, losses: queries on which the new pipeline is better, equal, worse.
        verdict: `passed` when `low` is at least minus the margin, or when all answers are the same and, by the exact
            bound, at most the share `SAME` of all queries is answered otherwise; `worse` when `high` is
            below 0 and the difference beyond the margin; else `undecided`.
        changed: share of the first ten hits that differ.
        needed: judged queries that would decide, if the difference and its variance stay; None if unknown.
        sentence: the verdict in words, with the figures.
        worst: the queries that lost most.
        slices: the difference within each group of `swap.gate.slices`, the worst first.
        remarks: what a reader should know about the figures.
    """

    metric: str
    margin: float
    confidence: float
    queries: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    verdict: Verdict
    sentence: str
    worst: tuple[QueryLoss, ...] = ()
    remarks: tuple[str, ...] = ()
    slices: tuple[SliceDifference, ...] = ()
    changed: float = 1.0
    needed: int | None = None

    @property
    def lost_slices(self) -> list[str]:
        """A sentence for each slice that is shown to lose more than the margin."""
        return [
            f"{self.metric} of {part.slice} is worse by {-part.mean:.4f} over {len(part.slice.queries)} queries, "
            f"interval [{part.low:+z.4f}, {part.high:+z.4f}], more than the margin of {self.margin:g}"
            for part in self.slices
            if part.mean < -self.margin and part.high < 0
        ]


def compare_judged(
    old: View | None, new: View, judged: Judged, config: GateConfig, *, clock: Clock = time.perf_counter
) -> JudgedComparison:
    """Compare how both pipelines answer the judged queries, and decide whether the new one is good enough.

    `old` is None where it answers nothing. Both are searched as they would be served: approximate search, quantization,
    rerankers and all. Queries without text or without a relevant document are left out, since they would dilute a loss.
    Of the others as many are drawn at random as can be asked in `config.seconds` by the clock.

    Raises:
        EvaluationError: an unknown metric.
        MissingExtra: ir-measures or scipy is not installed.
    """
    metric = judged.metric
    parse_metrics([metric])
    queries, relevant = judged.asked, judged.qrels.relevant
    held = held_documents(new, sorted({document for query in queries for document in relevant(query.id)}))
    known = [query for query in queries if held.keys() & relevant(query.id)]
    query_ids = {query.id for query in judged.queries}
    without_text = sum(query not in query_ids for query in judged.qrels.queries)
    empty = len(query_ids & set(judged.qrels.without_relevant))
    counts = ((without_text, "judged queries have no text"), (empty, "judged queries have no relevant document"))
    remarks = [f"{count} {what} and are left out" for count, what in counts if count]
    if known and len(known) < len(queries):  # the others score 0 on both sides, which would narrow the interval
        absent = len(queries) - len(known)
        remarks.append(f"{absent:,} judged queries have no relevant document in this collection and are left out")
        queries = known
    if len(queries) < LEAST_QUERIES:
        return _too_few(metric, config, len(queries), remarks)
    views = {"old": remembering(old) if old else None, "new": remembering(new)}
    depth = max(cutoff(metric) or DEEPEST, TOP)

    def ask(part: Sequence[Query]) -> None:
        for view in views.values():
            answers(view, part, depth=depth)

    drawn = random.Random(SEED).sample(queries, len(queries))
    asked_ids = {query.id for query in affordable(old or new, drawn, ask, seconds=config.seconds, clock=clock)}
    remarks += fewer([*asked_ids], queries, "judged queries were asked", config.seconds)
    queries = [query for query in queries if query.id in asked_ids]
    qrels = judged.qrels.restricted(asked_ids)
    hits = [answers(view, queries, depth=depth) for view in views.values()]
    sides = [
        evaluate(Run.from_hits(name, queries, lists), qrels, [metric]) for name, lists in zip(views, hits, strict=True)
    ]
    difference = compare(sides, "old", metric, confidence=config.confidence).of("new")
    changed = 1 - float(np.mean([common_share(*pair) for pair in zip(*hits, strict=True)]))
    remarks += [remark for side in sides for remark in side.remarks()]
    comparison = _comparison(metric, config, sides, difference, queries, remarks, changed)
    groups = slices_of(queries, config.slices, fields_of_queries(new, config.slices, qrels))
    by_slice = differences_by_slice(difference, groups, confidence=config.confidence)
    return replace(comparison, slices=tuple(sorted(by_slice, key=lambda part: part.mean)))


def is_judged_here(config: EvaluateConfig) -> bool:
    """Whether the config's judgements are those that `diptych judge` keeps in a folder, and can add to."""
    return config.qrels is not None and (Path(config.qrels).parent.parent / "judgements.jsonl").is_file()


def how_to_judge(config: EvaluateConfig, judged: Judged | None, needed: int) -> str:
    """The command that judges `needed` queries in all, and what of it the config should name."""
    is_named = is_judged_here(config)
    folder = Path(config.qrels or "").parent.parent if is_named else Path("judgements")
    is_enough = config.queries is not None and judged is not None and len(judged.queries) >= needed
    queries = "" if is_enough else " --queries QUERIES.jsonl"
    name = f"evaluate.queries: {folder}/queries.jsonl and evaluate.qrels: {folder}/qrels/test.tsv"
    then = "" if is_named else f", name {name} in the config"
    return f"diptych judge {folder}{queries} --sample {needed} --all{then}, then diptych apply"


def _comparison(
    metric: str,
    config: GateConfig,
    sides: Sequence[Evaluation],
    difference: Difference,
    queries: Sequence[Query],
    remarks: Sequence[str],
    changed: float,
) -> JudgedComparison:
    old, new = (side.means[metric] for side in sides)
    texts = {query.id: said(query) for query in queries}
    lost = [query for gap, query in sorted((gap, query) for query, gap in difference.per_query.items() if gap < 0)]
    lost = lost[:QUERIES_SHOWN]
    is_equal = not changed and difference.wins + difference.losses == 0
    finds_nothing, is_same = old == new == 0, is_equal and difference.high <= SAME
    if difference.wins + difference.losses < FEW and difference.low <= 0:
        # Resamples of a handful of differences say nothing of the losses that were not met: where no gain is shown,
        # the lower end is none above that of equal differences.
        most = clopper_pearson(0, len(difference.per_query), tail=(1 - config.confidence) / 2)[1]
        difference = replace(difference, low=min(difference.low, difference.mean - most * (1 + difference.mean)))
    is_worse = difference.mean < -config.margin and difference.high < 0
    verdict: Verdict = "passed" if is_same or difference.low >= -config.margin else "worse" if is_worse else "undecided"
    verdict = "undecided" if finds_nothing else verdict
    needed = None if finds_nothing or verdict != "undecided" else _needed(difference, config, is_same=is_equal)
    return JudgedComparison(
        metric=metric,
        margin=config.margin,
        confidence=config.confidence,
        queries=len(queries),
        old=old,
        new=new,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
        wins=difference.wins,
        ties=difference.ties,
        losses=difference.losses,
        verdict=verdict,
        sentence=_sentence(verdict, metric, config, (old, new), difference, same=is_same),
        worst=tuple(QueryLoss(query, texts[query], *(side.values(metric)[query] for side in sides)) for query in lost),
        remarks=tuple(remarks),
        changed=changed,
        needed=needed,
    )


def _sentence(
    verdict: Verdict,
    metric: str,
    config: GateConfig,
    means: tuple[float, float],
    difference: Difference,
    *,
    same: bool,
) -> str:
    if means == (0, 0):
        what = f"neither pipeline finds a relevant document for any of {len(difference.per_query)} judged queries"
        return f"{what}: do the judgements belong to this collection?"
    figures = (
        f"{metric} {means[0]:.4f} -> {means[1]:.4f}, difference {difference.mean:+z.4f}, "
        f"{100 * config.confidence:.4g}% interval [{difference.low:+z.4f}, {difference.high:+z.4f}] "
        f"over {len(difference.per_query)} queries"
    )
    ends = {
        "passed": f"not worse by more than the margin of {config.margin:g}; not shown to be better",
        "worse": f"worse by more than the margin of {config.margin:g}",
        "undecided": f"too few queries for the margin of {config.margin:g}",
    }
    end = "better: the whole interval is above 0" if verdict == "passed" and difference.low > 0 else ends[verdict]
    return f"{figures}: {'the same answers to all of them' if same else end}"


def _needed(difference: Difference, config: GateConfig, *, is_same: bool) -> int | None:
    """How many queries would narrow the interval enough to decide, if the difference and its variance stay.

    Where all queries differ alike, the exact bound of the share that would not is 1 - tail^(1/queries).
    """
    gaps, mean, tail = np.array([*difference.per_query.values()]), difference.mean, (1 - config.confidence) / 2
    room = -mean if mean < -config.margin else mean + config.margin
    room = max(room, SAME) if is_same else room
    if room <= 0:
        return None
    size = 0.0
    if np.ptp(gaps):
        size = RESERVE * float(gaps.var(ddof=1)) * (NormalDist().inv_cdf(tail) / room) ** 2
    if difference.wins + difference.losses < FEW or not np.ptp(gaps):
        size = max(size, math.log(tail) / math.log1p(-room / (1 + abs(mean))))
    number = max(math.ceil(size), len(gaps) + 1)
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / unit) * unit  # rounded up to two digits


def _too_few(metric: str, config: GateConfig, count: int, remarks: Sequence[str]) -> JudgedComparison:
    sentence = (
        f"judged queries with a relevant document: {count}; nothing can be compared with fewer than {LEAST_QUERIES}"
    )
    zeros = (0.0, 0.0, 0.0, 0.0, 0.0)
    return JudgedComparison(
        metric, config.margin, config.confidence, count, *zeros, 0, 0, 0, "undecided", sentence, (), tuple(remarks)
    )
