"""`tune_search`: which slots, fusion, weights, depth and rescoring suit judged queries, and whether that is shown."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diptych.errors import TuneError
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.metadata.payloads import id_filter
from diptych.runtime.phases import Progress, Unwatched
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.run import search
from diptych.tune.choose import choose
from diptych.tune.legs import Doubles, Legs, pools_of
from diptych.tune.search_report import SearchReport, SearchRow, front
from diptych.tune.trials import Trial, Values, trials
from diptych.types import Query

DEPTH, BATCH, CUTOFF, ASKED = 100, 64, 10, 20
Rankings = list[list[tuple[str, float]]]


def tune_search(
    handle: CollectionHandle | View,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    depths: Sequence[int] = (DEPTH,),
    budget: float | None = None,
    confidence: float = 0.95,
    folder: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> SearchReport:
    """Try every fusion of the collection's slots on judged queries; the collection is only read.

    Each slot is asked once for each query, and each slot that can rescore gives its scores of all candidates once;
    the hundreds of trials after that are arithmetic. Rerankers are left out on both sides.

    Args:
        handle: the open collection.
        queries, qrels: with judgements; queries without a relevant document are left out.
        depths: candidates of each slot to try.
        budget: the most milliseconds that the median query may take.
        confidence: of the gate's intervals.
        folder: keeps what slots found, so that a run that was cut off continues; None keeps nothing.
        progress: receives the progress of the stages, each named after a slot.
        seed: of the divisions into parts.

    Raises:
        TuneError: no judged query, or nothing to fuse.
        CollectionNotFound: nothing has been populated yet.
    """
    started, view = time.perf_counter(), handle.now()
    judged = [query for query in queries if qrels.relevant(query.id)]
    if not judged:
        raise TuneError("no query has a relevant document", where=f"collection {view.name!r}", got=len(queries))
    gathered = _Gathered(view, judged, max(depths), folder, progress or Unwatched())
    slots, rescorers = _slots(view)
    rankings = {slot: gathered.candidates(slot) for slot in slots}
    legs = Legs.of(rankings, [qrels.judgements[query.id] for query in judged], cutoff=CUTOFF)
    rescores = {slot: gathered.scores(slot, legs, rankings) for slot in rescorers}
    candidates, values = trials(slots, rescorers, depths=depths), Values(legs, rescores)
    table = values.table(candidates)
    present, present_values = _present(view, judged, legs, qrels)
    candidates, table = [*candidates, Trial(slots, None)], np.vstack([table, present_values])
    rows = _rows(view, candidates, table, [*(trial.pipeline() for trial in candidates[:-1]), present], judged)
    fitting = [n for n, row in enumerate(rows) if budget is None or row.milliseconds <= budget or n == len(rows) - 1]
    choice = choose(
        table[fitting], [candidates[n] for n in fitting], len(fitting) - 1, confidence=confidence, seed=seed
    )
    choice = replace(choice, index=fitting[choice.index], tuned=fitting[choice.tuned])
    return SearchReport(
        collection=view.name,
        queries=len(judged),
        rows=tuple(front(rows)),
        present=len(rows) - 1,
        chosen=choice.index,
        tuned=choice.tuned,
        passed=choice.passed,
        gains=choice.gains,
        confidence=confidence,
        seconds=time.perf_counter() - started,
        calls=gathered.calls,
    )


class _Gathered:
    """What slots answer: asked in batches, and kept in the folder once it is complete."""

    def __init__(
        self, view: View, queries: Sequence[Query], depth: int, folder: Path | None, progress: Progress
    ) -> None:
        self._view, self._queries, self._depth = view, queries, depth
        self._folder, self._progress, self.calls = folder, progress, 0

    def candidates(self, slot: str) -> Rankings:
        """The first `depth` documents of each query with their scores."""

        def ask() -> Rankings:
            self._progress.begin(slot, len(self._queries))
            rankings: Rankings = []
            for start in range(0, len(self._queries), BATCH):
                batch = self._queries[start : start + BATCH]
                stages = Retrieve(slot, self._depth)
                hits = search(self._view, batch, pipeline=stages, limit=self._depth, with_payload=False)
                rankings += [[(hit.id, hit.score) for hit in query_hits] for query_hits in hits]
                self.calls += 1
                self._progress.advance(slot, len(batch))
            return rankings

        return self._once(slot, ask)

    def scores(self, slot: str, legs: Legs, rankings: Mapping[str, Rankings]) -> Doubles:
        """The scores `[n, width]` that the slot gives all candidates of each query; NaN where it has none."""

        def ask() -> Rankings:
            self._progress.begin(slot, len(self._queries))
            scored: Rankings = []
            for query, ids in zip(self._queries, pools_of(rankings), strict=True):
                scored.append(self._scored(slot, query, [str(name) for name in ids]) if ids else [])
                self.calls += 1
                self._progress.advance(slot, 1)
            return scored

        table = np.full(legs.gains.shape, np.nan)
        scored = self._once(f"{slot}, all candidates", ask)
        for n, (ranking, ids) in enumerate(zip(scored, pools_of(rankings), strict=True)):
            score_by_id = dict(ranking)
            table[n, : len(ids)] = [score_by_id.get(str(name), np.nan) for name in ids]
        return table

    def _scored(self, slot: str, query: Query, ids: Sequence[str]) -> list[tuple[str, float]]:
        chosen = id_filter(ids, self._view.layout)
        (hits,) = search(
            self._view, [query], pipeline=Retrieve(slot), limit=len(ids), filter=chosen, with_payload=False
        )
        return [(hit.id, hit.score) for hit in hits]

    def _once(self, what: str, ask: Callable[[], Rankings]) -> Rankings:
        path = self._path(what)
        if path is not None and path.is_file():
            cached: Rankings = [
                [(name, score) for name, score in ranking] for ranking in json.loads(path.read_text("utf-8"))
            ]
            return cached
        rankings = ask()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(rankings), "utf-8")
            temporary.replace(path)
        return rankings

    def _path(self, what: str) -> Path | None:
        """A file named after everything that the answers depend on."""
        if self._folder is None:
            return None
        live = self._view.metadata.live.model_dump_json() if self._view.metadata else ""
        count = self._view.client.count(self._view.name, exact=True).count
        query_texts = [(query.id, query.text) for query in self._queries]
        key = json.dumps([what, live, count, self._depth, query_texts], sort_keys=True)
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _slots(view: View) -> tuple[tuple[str, ...], list[str]]:
    """The slots to retrieve from, and those that can only rescore."""
    rescorers = [name for name, slot in view.slots.items() if slot.kind == "multivector"]
    slots = tuple(name for name in view.slots if name not in rescorers)
    if len(slots) + len(rescorers) < 2 or not slots:
        raise TuneError(
            "there is nothing to choose between",
            where=f"collection {view.name!r}",
            got=", ".join(view.slots),
            expected="two slots or more",
        )
    return slots, rescorers


def _present(view: View, queries: Sequence[Query], legs: Legs, qrels: Qrels) -> tuple[Pipeline, Doubles]:
    """The config's pipeline without rerankers, and its value for each query, as it is served."""
    pipeline = replace(Pipeline.from_config(view.search_config, view.slots), rerank=())
    limit, hits = min(CUTOFF, pipeline.depth or CUTOFF), []
    for start in range(0, len(queries), BATCH):
        hits += search(view, queries[start : start + BATCH], pipeline=pipeline, limit=limit, with_payload=False)
    rankings = {"present": [[(hit.id, -float(place)) for place, hit in enumerate(query_hits)] for query_hits in hits]}
    return pipeline, Legs.of(rankings, [qrels.judgements[q.id] for q in queries], cutoff=legs.cutoff).alone("present")


def _rows(
    view: View, candidates: Sequence[Trial], table: Doubles, pipelines: Sequence[Pipeline], queries: Sequence[Query]
) -> list[SearchRow]:
    """A row for each trial. Those whose requests have one shape share one measurement of their time."""
    shapes: dict[object, Pipeline] = {}
    for pipeline in pipelines:
        shapes.setdefault(_shape(pipeline), pipeline)
    times = _milliseconds(view, shapes, [query.text for query in queries[:ASKED]])
    errors = table.std(axis=1, ddof=1) / np.sqrt(table.shape[1]) if table.shape[1] > 1 else np.zeros(len(table))
    return [
        SearchRow(pipeline, float(table[n].mean()), float(errors[n]), times[_shape(pipeline)])
        for n, pipeline in enumerate(pipelines)
    ]


def _shape(pipeline: Pipeline) -> object:
    fuse = pipeline.fuse
    weighted = bool(getattr(fuse, "weights", {}))
    kind = (type(fuse).__name__, getattr(fuse, "missing", None) is None, weighted)
    return (
        tuple((branch.slot, branch.candidates) for branch in pipeline.retrieve),
        kind,
        pipeline.rescore,
        pipeline.diversify,
    )


def _milliseconds(view: View, shapes: Mapping[object, Pipeline], texts: Sequence[str]) -> dict[object, float]:
    """The median time of a query, encoding included; every query is put to all pipelines in turn."""
    forgetful = replace(view, search_config=view.search_config.model_copy(update={"remember": 0}), kept={})
    seconds: dict[object, list[float]] = {shape: [] for shape in shapes}
    for turn, text in enumerate([texts[0], *texts]):
        for shape, pipeline in shapes.items():
            begin = time.perf_counter()
            search(forgetful, [text], pipeline=pipeline, limit=min(CUTOFF, pipeline.depth or CUTOFF))
            if turn:  # the first one warms up
                seconds[shape].append(time.perf_counter() - begin)
    return {shape: 1000 * float(np.median(times)) for shape, times in seconds.items()}
