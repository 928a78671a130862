"""`tune_rerank`: what a reranker's calls buy, with and without exploring.

The reranker's own list is the order that it would give all documents. A search with few calls finds a part of it. That
and quality are measured, since a reranker may rank documents first that people did not judge relevant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from qdrant_client import models

from diptych.config.stages import Rerank
from diptych.errors import TuneError
from diptych.evaluate import Qrels, bootstrap_means
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.metadata.payloads import from_payload
from diptych.runtime.phases import Progress, Unwatched
from diptych.search.options import Options
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.request import SearchRequest
from diptych.search.rerank import require_anchors
from diptych.search.run import search
from diptych.search.store_calls import scrolled
from diptych.types import Hit, Query
from diptych_lab.tune.search import OnceScored
from diptych_lab.tune.trials import Doubles, Legs, with_front

BUDGETS, SAMPLE, BATCH, PAGE = (25, 50, 100, 200), 50, 64, 256
DRAWS, TAIL = 10_000, 0.025

DEPTHS, CUTOFF = (10, 50), 10  # of recall of the reranker's own list, and of nDCG


@dataclass(frozen=True, slots=True)
class RerankRow:
    """One first stage with one budget.

    Args:
        first: the first stage: a slot, or the config's fusion.
        explore: whether the reranker explored.
        calls: documents that it scored for a query, in the mean.
        ndcg: mean nDCG@10; None without judgements.
        recall: mean share of the reranker's own top 10 and top 50 that was scored, by depth.
        front: whether no other row is as good with fewer calls, by nDCG, or by recall of the top 50 without judgements.
        recall_front: the same by recall of the top 50, with judgements or without.
    """

    first: str
    explore: bool
    budget: int
    calls: float
    ndcg: float | None
    recall: Mapping[int, float]
    front: bool = False
    recall_front: bool = False


@dataclass(frozen=True, slots=True)
class RerankGain:
    """What exploring adds over the same first stage with the same budget, with 95 % paired bootstrap intervals.

    Args:
        recall: difference in recall of the reranker's own top 50, then the interval.
        ndcg: likewise of nDCG@10; None without judgements.
    """

    first: str
    budget: int
    recall: tuple[float, float, float]
    ndcg: tuple[float, float, float] | None

    def __str__(self) -> str:
        parts = [f"{_signed(self.recall)} of its own top {DEPTHS[-1]}"]
        if self.ndcg is not None:
            _, low, high = self.ndcg
            verdict = "" if low > 0 else ", a loss" if high < 0 else ", which shows no gain"
            parts.append(f"{_signed(self.ndcg)} nDCG@{CUTOFF}{verdict}")
        return f"{self.first}, {self.budget} calls: exploring adds {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class RerankReport:
    """The result of `tune_rerank`.

    Args:
        reranker: its label.
        queries: how many were asked.
        documents: how many the reranker scored for each of them to know its own list; 0 where its list is only what all
            trials together found.
        pairs: that the reranker scored in all.
        rows, gains: what was measured; there are no gains if the stage does not explore.
    """

    collection: str
    reranker: str
    queries: int
    documents: int
    pairs: int
    rows: tuple[RerankRow, ...]
    gains: tuple[RerankGain, ...]


def _signed(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:+z.3f} [{low:+z.3f}, {high:+z.3f}]"


def tune_rerank(
    handle: CollectionHandle | View,
    queries: Sequence[Query],
    qrels: Qrels | None = None,
    *,
    budgets: Sequence[int] = BUDGETS,
    sample: int | None = SAMPLE,
    pooled: bool = False,
    progress: Progress | None = None,
    announce: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> RerankReport:
    """Search with the config's first reranker over each slot and the config's fusion, with several budgets.

    The collection is only read. Documents are read from their beginning, as for the anchors; those that the config
    excludes are left out.

    Args:
        handle: the open collection.
        queries, qrels: with judgements, queries without a relevant document are left out.
        budgets: documents that the reranker scores for a query.
        sample: queries drawn; None takes all.
        pooled: take what all trials found as the reranker's own list, instead of scoring every document.
        progress: receives the progress.
        announce: called with the numbers of queries and documents before all their pairs are scored; not with `pooled`.
        seed: of the sample.

    Raises:
        TuneError: no query, no reranker, one whose scores depend on the other candidates, or a budget below its rounds.
        TenantError: the collection requires a tenant.
        SearchError: it explores, and the anchors are not built, or are another reranker's.
        CollectionNotFound: nothing has been populated yet.
    """
    view, progress = handle.now(), progress or Unwatched()
    served = Pipeline.from_config(view.search_config, view.slots)
    stage, reranker = _stage(view, served)
    _require_budgets(budgets, stage)
    chosen = sampled(queries, qrels, sample, seed=seed)
    if not chosen:
        raise TuneError("no query has a relevant document", where=f"collection {view.name!r}", got=len(queries))
    request = SearchRequest.of(view, [query.text for query in chosen], Options(pipeline=served))
    if stage.explore is not None:
        require_anchors(request, stage, reranker)
    texts = {} if pooled else _texts(view, request.filter)
    run = _Run(
        view, chosen, qrels, replace(stage, adapter=reranker, early_exit=None, deadline=None, read="document"), progress
    )
    if announce and texts:
        announce(len(chosen), len(texts))
    run.score_all([*texts.values()])
    trials = [*_trials(_firsts(view, served), run.stage, sorted(set(budgets)))]
    progress.begin("search", len(trials))
    for first, budget, pipeline in trials:
        run.measure(first, budget, pipeline)
        progress.advance("search", 1)
    rows, gains = run.result()
    return RerankReport(view.name, stage.label, len(chosen), len(texts), len(reranker.scores), rows, gains)


class _Run:
    """Searches with each trial, and remembers what each found of each query."""

    def __init__(
        self, view: View, queries: Sequence[Query], qrels: Qrels | None, stage: Rerank, progress: Progress
    ) -> None:
        self.view, self.queries, self.stage, self._progress = view, queries, stage, progress
        self._grades = [qrels.judgements[query.id] for query in queries] if qrels else None
        self._reranker: OnceScored = stage.adapter  # type: ignore[assignment]
        self._trials: dict[tuple[str, int, bool], tuple[list[list[Hit]], float]] = {}
        self._own: list[list[float]] = [[] for _ in queries]  # each query's best scores, best first

    def score_all(self, documents: Sequence[str]) -> None:
        """Score all documents for each query, to know the reranker's own list."""
        if not documents:
            return
        self._progress.begin("own list", len(self.queries))
        for place, query in enumerate(self.queries):
            scores = self._reranker.predict([(query.text, text) for text in documents])
            self._own[place] = np.sort(scores)[::-1][: DEPTHS[-1]].tolist()
            self._progress.advance("own list", 1)

    def measure(self, first: str, budget: int, pipeline: Pipeline) -> None:
        """Search all queries."""
        before, hits = self._reranker.asked, list[list[Hit]]()
        for start in range(0, len(self.queries), BATCH):
            batch = self.queries[start : start + BATCH]
            hits += search(self.view, batch, pipeline=pipeline, limit=min(DEPTHS[-1], budget), with_payload=False)
        calls = (self._reranker.asked - before) / len(self.queries)
        self._trials[first, budget, pipeline.rerank[0].explore is not None] = hits, calls

    def result(self) -> tuple[tuple[RerankRow, ...], tuple[RerankGain, ...]]:
        """The rows, and what exploring adds."""
        own = self._own if any(self._own) else self._pooled()
        recall = {key: {k: _recall(hits, own, k) for k in DEPTHS} for key, (hits, _) in self._trials.items()}
        ndcg = {key: self._ndcg(hits) for key, (hits, _) in self._trials.items()}
        rows = [
            RerankRow(
                first,
                explore,
                budget,
                calls,
                None if (values := ndcg[first, budget, explore]) is None else float(values.mean()),
                {k: float(found.mean()) for k, found in recall[first, budget, explore].items()},
            )
            for (first, budget, explore), (_, calls) in self._trials.items()
        ]
        gains = [
            RerankGain(
                first,
                budget,
                _interval(recall[first, budget, True][DEPTHS[-1]] - recall[first, budget, False][DEPTHS[-1]]),
                None if with_it is None or without is None else _interval(with_it - without),
            )
            for first, budget, explore in self._trials
            if explore
            for with_it, without in [(ndcg[first, budget, True], ndcg[first, budget, False])]
        ]
        by_recall = [replace(row, recall_front=row.front) for row in with_front(rows, _costs_by_recall)]
        return tuple(with_front(by_recall, _costs)), tuple(gains)

    def _pooled(self) -> list[list[float]]:
        """Each query's best scores among what all trials found."""
        best = []
        for place in range(len(self.queries)):
            scores = {hit.id: hit.score for hits, _ in self._trials.values() for hit in hits[place]}
            best.append(sorted(scores.values(), reverse=True)[: DEPTHS[-1]])
        return best

    def _ndcg(self, hits: Sequence[Sequence[Hit]]) -> Doubles | None:
        if self._grades is None:
            return None
        ranked = {"trial": [[(hit.id, -float(place)) for place, hit in enumerate(own)] for own in hits]}
        return Legs.of(ranked, self._grades, cutoff=CUTOFF).alone("trial")


def _stage(view: View, served: Pipeline) -> tuple[Rerank, OnceScored]:
    where = f"collection {view.name!r}"
    if not served.rerank:
        do = "add one under search.rerank; if it is there, make it live: diptych apply"
        raise TuneError("the pipeline has no reranker", where=where, do=do)
    stage = served.rerank[0]
    reranker = view.reranker(stage.adapter, stage.options) if isinstance(stage.adapter, str) else stage.adapter
    if not reranker.independent:
        what = "a reranker whose scores depend on the other candidates has no list of its own"
        raise TuneError(what, where=f"{where}, reranker {stage.label!r}", got="independent = False")
    return stage, OnceScored.of(stage, reranker)


def _require_budgets(budgets: Sequence[int], stage: Rerank) -> None:
    least = stage.explore.rounds if stage.explore else 1
    if bad := [budget for budget in budgets if budget < least]:
        expected = f"{least} or more" + (", a document for each round" if stage.explore else "")
        do = "name a larger one, or lower search.rerank[0].explore.rounds" if stage.explore else "name a larger one"
        raise TuneError("a budget is too small", where="budgets", got=bad[0], expected=expected, do=do)


def _firsts(view: View, served: Pipeline) -> dict[str, Pipeline]:
    """The first stages to try: the config's own, and each slot alone that queries have a vector for."""
    slots = [
        name
        for name, slot in view.slots.items()
        if (slot.kind != "multivector" or slot.passage_vectors) and not slot.anchored
    ]
    bare = replace(served, rerank=())
    own = {} if not bare.stages and bare.retrieve[0].slot in slots else {bare.label: bare}
    return {**{name: Pipeline((Retrieve(name),)) for name in slots}, **own}


def _trials(
    firsts: Mapping[str, Pipeline], stage: Rerank, budgets: Sequence[int]
) -> Iterator[tuple[str, int, Pipeline]]:
    """First stage, budget and pipeline of each trial: with as many candidates as calls, then exploring from fewer."""
    for (first, pipeline), budget in product(firsts.items(), budgets):
        yield first, budget, _widened(pipeline, budget) >> replace(stage, candidates=budget, explore=None)
        if stage.explore is not None:
            few = math.ceil(budget / stage.explore.rounds)
            explore = replace(stage.explore, budget=budget)
            yield first, budget, _widened(pipeline, budget) >> replace(stage, candidates=few, explore=explore)


def _widened(pipeline: Pipeline, candidates: int) -> Pipeline:
    """The pipeline with at least so many candidates of each stage."""
    branches = tuple(replace(branch, candidates=max(branch.candidates, candidates)) for branch in pipeline.retrieve)
    stages = {
        name: replace(own, candidates=max(own.candidates, candidates))
        for name, own in (("rescore", pipeline.rescore), ("diversify", pipeline.diversify))
        if own is not None
    }
    return replace(pipeline, retrieve=branches, **stages)  # type: ignore[arg-type]


def _texts(view: View, found: models.Filter | None) -> dict[object, str]:
    """What the reranker reads of every document that a search may find, by point."""
    texts: dict[object, str] = {}
    for records in scrolled(view, found, PAGE):
        documents = {record.id: from_payload(record.id, record.payload, view.layout) for record in records}
        texts |= {point: view.reading.of(document.title, document.text) for point, document in documents.items()}
    return texts


def _recall(hits: Sequence[Sequence[Hit]], own: Sequence[Sequence[float]], depth: int) -> Doubles:
    """The share of the reranker's own best `depth` that each query's hits hold; of equal scores any one counts."""
    shares = []
    for found, best in zip(hits, own, strict=True):
        last = best[min(depth, len(best)) - 1] if best else 0.0
        held = sum(hit.score >= last for hit in found)
        shares.append(min(1.0, held / min(depth, len(best))) if best else 1.0)
    return np.array(shares)


def _interval(differences: Doubles) -> tuple[float, float, float]:
    means = bootstrap_means(differences, samples=DRAWS, seed=0)
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(differences.mean()), float(low), float(high)


def _costs(row: RerankRow) -> tuple[float, float]:
    return _costs_by_recall(row) if row.ndcg is None else (row.calls, -row.ndcg)


def _costs_by_recall(row: RerankRow) -> tuple[float, float]:
    return row.calls, -row.recall[DEPTHS[-1]]


def sampled(queries: Sequence[Query], qrels: Qrels | None, sample: int | None, *, seed: int = 0) -> list[Query]:
    """The queries to search with: those with a relevant document, or `sample` of them, in their order."""
    judged = [query for query in queries if qrels is None or qrels.relevant(query.id)]
    if sample is None or len(judged) <= sample:
        return judged
    places = np.random.default_rng(seed).permutation(len(judged))[:sample]
    return [judged[place] for place in sorted(places.tolist())]
