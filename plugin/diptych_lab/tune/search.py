"""`tune_search`: finds the slots, fusion, later stages and parameters that suit judged queries, and tests the gain."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from diptych.config import SearchParams
from diptych.errors import TuneError
from diptych.evaluate import Qrels, ask, times
from diptych.evaluate.ask import BATCH, Searched, milliseconds
from diptych.protocols import Pair, Reranker
from diptych.runtime.phases import Progress, Unwatched
from diptych.search import CollectionHandle, Pipeline, Rerank, Retrieve, View, score_pairs, search_params
from diptych.search.store_calls import scrolled
from diptych.slots.slot import parts_of
from diptych.stores.versions import is_local
from diptych.types import Floats, Hit, Query, said
from diptych_lab.tune.sample import blocks
from diptych_lab.tune.search_report import SearchReport, SearchRow, params_text
from diptych_lab.tune.trials import (
    Doubles,
    Legs,
    Trial,
    Values,
    bases_of,
    choose,
    pools_of,
    reranker_stages,
    stage_key,
    trials,
    with_front,
)

PAGE = 256
Rankings = list[list[tuple[str, float]]]

TIMING = "timing"  # the stage of the progress

DEPTHS, CUTOFF, ASKED = (50, 100), 10, 20
PRESENT = "asking the present pipeline"  # a stage of the progress
EFS = (32, 64, 128, 256)  # widths of the graph search to try
OVERSAMPLING = (1.0, 2.0, 4.0)


def tune_search(
    handle: CollectionHandle | View,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    depths: Sequence[int] = (),
    budget: float | None = None,
    progress: Progress | None = None,
) -> SearchReport:
    """Try fusions, later stages and parameters of the search on judged queries; the collection is only read.

    Each slot is asked once for each query and each set of parameters. Slots that can rescore, and the rerankers that
    the config declares, score each candidate once. The hundreds of trials after that are arithmetic. Rerankers whose
    scores depend on the other candidates are left out on both sides.

    Args:
        handle: the open collection.
        queries, qrels: with judgements; queries without a relevant document are left out.
        depths: candidates of each slot to try; by default 50 and 100, if the config's limit is not above these.
        budget: longest milliseconds of the median query, encoding included. A present pipeline that exceeds it is
            replaced by the best that does not.
        progress: receives the progress of the stages, such as `asking SLOT`.

    Raises:
        TuneError: no judged query, or nothing to choose between.
        CollectionNotFound: nothing has been populated yet.
    """
    started, view = time.perf_counter(), handle.now()
    judged = [query for query in queries if qrels.relevant(query.id)]
    if not judged:
        raise TuneError("no query has a relevant document", where=f"collection {view.name!r}", got=len(queries))
    _require_answerable(view, judged)
    limit = view.search_config.limit
    depths = (
        depths or [depth for depth in DEPTHS if depth >= limit] or [limit]
    )  # enough for a page of the config's size
    run = _Run(view, judged, qrels, depths, progress or Unwatched())
    candidates, table, pipelines = run.tried()
    rows = _rows(run, pipelines, table)
    present = len(rows) - 1
    fits = [budget is None or row.milliseconds <= budget for row in rows]
    fitting = [n for n in range(len(rows)) if n == present or fits[n]]
    choice = choose(
        table[fitting],
        [candidates[n] for n in fitting],
        len(fitting) - 1,
        start_fits=fits[present] or len(fitting) == 1,
    )
    return SearchReport(
        collection=view.name,
        queries=len(judged),
        rows=tuple(with_front(rows, lambda row: (-row.value, row.milliseconds))),
        present=present,
        chosen=fitting[choice.index],
        tuned=fitting[choice.tuned],
        passed=choice.passed,
        gains=choice.gains,
        seconds=time.perf_counter() - started,
        calls=run.answers.calls,
        pairs=sum(reranker.pairs for reranker in run.rerankers.values()),
        fits=fits[present],
        rerankers=tuple(stage.label for stage in run.stages),
        left_out=run.left_out,
    )


class _Run:
    """Asks slots and rerankers, and computes the values of all trials."""

    def __init__(
        self,
        view: View,
        queries: Sequence[Query],
        qrels: Qrels,
        depths: Sequence[int],
        progress: Progress,
    ) -> None:
        self.view, self.queries, self.depths = view, queries, depths
        self.grades = [qrels.judgements[query.id] for query in queries]
        self.answers, self.progress = Answers(view, queries, max(depths), progress), progress
        served = Pipeline.from_config(view.search_config, view.slots)
        self.config = replace(served, boost=None, diversify=None)  # trials have neither, and the config keeps both
        made = {stage_key(stage): _reranker(view, stage) for stage in self.config.rerank}
        self.rerankers = {
            stage_key(stage): OnceScored(made[stage_key(stage)])
            for stage in self.config.rerank
            if made[stage_key(stage)].independent
        }
        # The best passages are those of a pipeline's own slots, so a pair's score is another in another pipeline.
        passages = any(slot.passage_vectors for slot in view.slots.values())
        once = [
            stage_key(stage) in self.rerankers and not (passages and stage.read == "passages")
            for stage in self.config.rerank
        ]
        self.stages = tuple(stage for stage, known in zip(self.config.rerank, once, strict=True) if known)
        self.left_out = tuple(stage.label for stage, known in zip(self.config.rerank, once, strict=True) if not known)
        self.made: Mapping[str, Reranker] = made
        labels = [stage.label for stage in self.stages]
        self._reranking = {
            stage_key(stage): f"reranking by {stage.label}{f' {n + 1}' if stage.label in labels[:n] else ''}"
            for n, stage in enumerate(self.stages)
        }

    def tried(self) -> tuple[list[Trial], Doubles, list[Pipeline]]:
        """The trials, their values `[trials, n]`, and their pipelines; the last is the present one."""
        slots, rescorers = _slots(self.view, self.stages)
        params = self.view.search_config.params
        rankings = {slot: self.answers.candidates(slot, params) for slot in slots}
        legs = Legs.of(rankings, self.grades, cutoff=CUTOFF)
        late = {slot: self.answers.scores(slot, legs, rankings) for slot in rescorers}
        dense = [name for name in rankings if self.view.slots[name].kind == "dense"]
        variants = dict[SearchParams, Legs]()  # what slots find with other parameters, if these change their candidates
        for other in _other_params(self.view, dense):
            changed = {**rankings, **{slot: self.answers.candidates(slot, other) for slot in dense}}
            if changed != rankings:
                variants[other] = Legs.of(changed, self.grades, cutoff=CUTOFF)
        values = Values(legs, late, self._scores(Values(legs, late), rankings, rescorers), variants)
        present = replace(self.config, rerank=self.stages)
        tried = trials(slots, rescorers, depths=self.depths, rerankers=self.stages, params=list(variants))
        tried = [trial for trial in tried if not _same(trial.pipeline(params), present)]
        # The value of the present pipeline for each query, as it is served.
        once = tuple(replace(stage, adapter=self.rerankers[stage_key(stage)], options={}) for stage in present.rerank)
        hits = self.answers.ask(replace(present, rerank=once), CUTOFF, PRESENT)
        ranked = {"present": [[(hit.id, -float(place)) for place, hit in enumerate(own)] for own in hits]}
        served = Legs.of(ranked, self.grades, cutoff=CUTOFF).alone("present")
        table = np.vstack([*map(values.of, tried), served])
        return [*tried, Trial.of(present)], table, [*(trial.pipeline(params) for trial in tried), present]

    def _scores(self, values: Values, rankings: Mapping[str, Rankings], rescorers: Sequence[str]) -> dict[str, Doubles]:
        """Each reranker's scores of the candidates that any trial has it read."""
        if not self.stages:
            return {}
        bases = bases_of(trials(values.legs.slots, rescorers, depths=self.depths))
        return {
            stage_key(stage): self.answers.reranker_scores(
                self.rerankers[stage_key(stage)],
                stage_key(stage),
                values.first(bases, stage.candidates),
                values.legs,
                rankings,
                stage=self._reranking[stage_key(stage)],
            )
            for stage in self.stages
        }


def _same(one: Pipeline, other: Pipeline) -> bool:
    """Whether two pipelines find the same; one slot alone returns as many hits as a search asks for."""
    alone = not (one.stages or other.stages)
    return one == other or (
        alone and replace(one.retrieve[0], candidates=1) == replace(other.retrieve[0], candidates=1)
    )


def _reranker(view: View, stage: Rerank) -> Reranker:
    return view.reranker(stage.adapter, stage.options) if isinstance(stage.adapter, str) else stage.adapter


def _other_params(view: View, dense: Sequence[str]) -> list[SearchParams]:
    """Other parameters of the approximate search than the config's: of the graph, and of quantized vectors."""
    present = view.search_config.params
    if not dense or present.exact or is_local(view.client):
        return []
    variants = [present.model_copy(update={"hnsw_ef": width}) for width in EFS]
    generations = [view.slots[slot].generation for slot in dense]
    if any(generation and generation.storage.get("quantization") for generation in generations):
        variants.append(present.model_copy(update={"rescore": False, "oversampling": None}))
        variants += [present.model_copy(update={"rescore": True, "oversampling": factor}) for factor in OVERSAMPLING]
    return [params for params in variants if params != present]


def _slots(view: View, stages: Sequence[Rerank]) -> tuple[tuple[str, ...], list[str]]:
    """The slots to retrieve from, and those that can only rescore."""
    rescorers = [name for name, slot in view.slots.items() if slot.kind == "multivector" and not slot.passage_vectors]
    slots = tuple(name for name, slot in view.slots.items() if name not in rescorers)
    if len(slots) + len(rescorers) + len(stages) < 2 or not slots:
        raise TuneError(
            "there is nothing to choose between",
            where=f"collection {view.name!r}",
            got=", ".join(view.slots),
            expected="two slots or more, or a slot and a reranker",
        )
    return slots, rescorers


def _require_answerable(view: View, queries: Sequence[Query]) -> None:
    """Each slot is asked alone, and rerankers read texts."""
    alone = [query for query in queries if not query.text.strip()]
    readers = [(name, [query for query in queries if not parts_of(slot, query)]) for name, slot in view.slots.items()]
    readers += [(f"reranker {stage.adapter}", alone) for stage in view.search_config.rerank]
    for name, unread in readers:
        if unread:
            raise TuneError(
                "not every slot and reranker can read all judged queries",
                where=name,
                got=f"{len(unread)} of {len(queries)} queries, such as {said(unread[0])!r}",
                do="judge queries that all of them take, or choose weights by hand and compare with diptych evaluate",
            )


def _rows(run: _Run, pipelines: Sequence[Pipeline], table: Doubles) -> list[SearchRow]:
    """A row for each trial. Trials whose requests have the same shape share one measurement of time."""
    shapes: dict[object, Pipeline] = {}
    for pipeline in pipelines:
        shapes.setdefault(shape_of(pipeline), replace(pipeline, rerank=()))
    sides, timed = [Searched(run.view, pipeline) for pipeline in shapes.values()], run.queries[:ASKED]
    run.progress.begin(TIMING, len(timed))
    found = milliseconds(sides, timed, limit=CUTOFF, advance=lambda n: run.progress.advance(TIMING, n))
    asking_times = dict(zip(shapes, found, strict=True))
    run.answers.calls += (len(run.queries[:ASKED]) + 1) * len(shapes)
    reading = reranker_milliseconds(run.stages, run.made, run.rerankers, run.queries[:ASKED])
    errors = table.std(axis=1, ddof=1) / np.sqrt(table.shape[1]) if table.shape[1] > 1 else np.zeros(len(table))
    return [
        SearchRow(
            pipeline,
            float(table[n].mean()),
            float(errors[n]),
            asking_times[shape_of(pipeline)]
            + sum(reading[stage_key(stage), stage.candidates] for stage in pipeline.rerank),
        )
        for n, pipeline in enumerate(pipelines)
    ]


def shape_of(pipeline: Pipeline) -> object:
    """What decides how long a request of the pipeline takes, rerankers aside."""
    fuse, rescore = pipeline.fuse, pipeline.rescore
    weighted = bool(getattr(fuse, "weights", {}))
    kind = (type(fuse).__name__, getattr(fuse, "missing", None) is None, weighted)
    return (
        tuple((branch.slot, branch.candidates, repr(branch.params)) for branch in pipeline.retrieve),
        kind,
        (rescore.slot, rescore.candidates, rescore.weight < 1) if rescore else None,
        pipeline.diversify,
    )


def reranker_milliseconds(
    stages: Sequence[Rerank],
    made: Mapping[str, Reranker],
    scored: Mapping[str, OnceScored],
    queries: Sequence[Query],
) -> dict[tuple[str, int], float]:
    """By reranker and number of candidates, the median time of scoring them for one query.

    Args:
        stages: of the pipeline.
        made, scored: the rerankers by `stage_key`, and those that keep which candidates they have scored.
        queries: those that are timed.
    """
    medians: dict[tuple[str, int], float] = {}
    for stage in stages:
        key, reranker = stage_key(stage), made[stage_key(stage)]
        groups: dict[str, list[tuple[str, str]]] = {query.text: [] for query in queries}
        for query, text in scored[key].scores:
            if query in groups:
                groups[query].append((query, text))
        counts = sorted({stage.candidates, *(variant.candidates for variant in reranker_stages(stage))})
        where = f"reranker {stage.label!r}"

        def score(count: int, pairs: Sequence[Pair], reranker: Reranker = reranker, where: str = where) -> None:
            score_pairs(reranker, [pairs[:count]], where=where)

        measured = np.median(times(score, counts, list(groups.values()), warm_up=0), axis=1)
        medians |= {(key, count): float(value) for count, value in zip(counts, measured, strict=True)}
    return medians


class OnceScored:
    """A reranker that scores each pair of query and document once, and answers from memory after that.

    Args:
        reranker: an `independent` one, since scores that depend on the other candidates cannot be kept.

    `pairs` counts the pairs that the reranker scored.
    """

    independent = True

    def __init__(self, reranker: Reranker) -> None:
        self._reranker, self.max_length = reranker, reranker.max_length
        self.scores: dict[Pair, float] = {}
        self.pairs = 0

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`."""
        unknown = list(dict.fromkeys(pair for pair in pairs if pair not in self.scores))
        if unknown:
            (scores,) = score_pairs(self._reranker, [unknown], where=f"reranker {type(self._reranker).__name__!r}")
            self.scores |= zip(unknown, scores.tolist(), strict=True)
            self.pairs += len(unknown)
        return np.array([self.scores[pair] for pair in pairs], np.float32)


class Answers:
    """Asks slots and rerankers in batches.

    Args:
        view: the collection, which is only read.
        queries: the judged queries.
        depth: candidates of each slot.
        progress: receives the progress of each slot and reranker.

    `calls` counts the requests to the store.
    """

    def __init__(self, view: View, queries: Sequence[Query], depth: int, progress: Progress) -> None:
        self._view, self._queries, self._depth = view, queries, depth
        self._progress, self.calls = progress, 0

    def ask(self, pipeline: Pipeline, depth: int, stage: str) -> list[Sequence[Hit]]:
        """The hits of each query; `stage` is that of the progress."""
        self._progress.begin(stage, len(self._queries))

        def advance(queries: int) -> None:
            self.calls += 1
            self._progress.advance(stage, queries)

        return ask(self._view, self._queries, depth=depth, pipeline=pipeline, advance=advance)

    def candidates(self, slot: str, params: SearchParams) -> Rankings:
        """The first `depth` documents of each query with their scores, found with these parameters."""
        stages = Pipeline((Retrieve(slot, self._depth, params=search_params(params)),))
        text = params_text(search_params(params))
        hits = self.ask(stages, self._depth, f"asking {slot} ({text})" if text else f"asking {slot}")
        return [[(hit.id, hit.score) for hit in query_hits] for query_hits in hits]

    def scores(self, slot: str, legs: Legs, rankings: Mapping[str, Rankings]) -> Doubles:
        """The scores `[n, width]` that the slot gives all candidates of each query; NaN where it has none."""
        stage, scored = f"rescoring by {slot}", list[list[tuple[str, float]]]()
        self._progress.begin(stage, len(self._queries))
        for query, ids in zip(self._queries, pools_of(rankings), strict=True):
            hits: Sequence[Hit] = []
            if ids:
                chosen, pipeline = self._view.layout.id_filter([str(name) for name in ids]), Pipeline((Retrieve(slot),))
                (hits,) = ask(self._view, [query], depth=len(ids), pipeline=pipeline, filter=chosen)
            scored.append([(hit.id, hit.score) for hit in hits])
            self.calls += 1
            self._progress.advance(stage, 1)
        return _table(scored, legs, rankings)

    def reranker_scores(
        self,
        reranker: OnceScored,
        name: str,
        chosen: np.ndarray,
        legs: Legs,
        rankings: Mapping[str, Rankings],
        *,
        stage: str,
    ) -> Doubles:
        """The reranker's scores `[n, width]` of the chosen candidates; NaN of the others.

        Args:
            reranker: keeps what it scored.
            name: the reranker's key.
            chosen: `[n, width]`, whether a candidate is to be scored.
            legs, rankings: the candidates.
            stage: of the progress.
        """
        pools = [[str(name) for name in ids] for ids in pools_of(rankings)]
        chosen_ids = [
            [ids[place] for place in np.flatnonzero(row[: len(ids)])] for ids, row in zip(pools, chosen, strict=True)
        ]
        texts = self._texts({identifier for ids in chosen_ids for identifier in ids})
        scored, label = list[list[tuple[str, float]]](), name.partition(" ")[0]
        self._progress.begin(stage, len(self._queries))
        for places in blocks(range(len(self._queries)), BATCH):
            groups = [[(self._queries[n].text, texts[i]) for i in chosen_ids[n] if i in texts] for n in places]
            scores = score_pairs(reranker, groups, where=f"reranker {label!r}")
            ids = ([i for i in chosen_ids[n] if i in texts] for n in places)
            scored += [list(zip(names, row.tolist(), strict=True)) for names, row in zip(ids, scores, strict=True)]
            self._progress.advance(stage, len(places))
        return _table(scored, legs, rankings)

    def _texts(self, ids: Iterable[str]) -> dict[str, str]:
        """The texts of these documents that rerankers read, by id."""
        view, texts = self._view, dict[str, str]()
        for page in blocks(sorted(ids), PAGE):
            for records in scrolled(view, view.layout.id_filter(page), PAGE):
                self.calls += 1
                for record in records:
                    document = view.layout.read(record.id, record.payload)
                    texts[document.id] = view.reading.of(document.title, document.text)
        return texts


def _table(scored: Rankings, legs: Legs, rankings: Mapping[str, Rankings]) -> Doubles:
    """`[n, width]` from each query's documents with their scores; NaN for the others."""
    table = np.full(legs.gains.shape, np.nan)
    for n, (ranking, ids) in enumerate(zip(scored, pools_of(rankings), strict=True)):
        score_by_id = dict(ranking)
        table[n, : len(ids)] = [score_by_id.get(str(name), np.nan) for name in ids]
    return table
