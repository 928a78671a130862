"""`explain`: why a document has its rank, in numbers that add up: an `Explanation` for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Unpack

import numpy as np
from qdrant_client import models

from diptych.display import Display, Displayed, Excerpt, Table
from diptych.errors import DocumentNotFound
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View, narrowed
from diptych.search.excerpts import has_passages, matching_words, with_passages
from diptych.search.fusion import PointId, Ranking, contributions, fuse
from diptych.search.options import ExplainOptions, SearchOptions, check_options
from diptych.search.pipeline import Pipeline
from diptych.search.query import Inputs, QueryWithExamples, fusion_request, params_for, slots_for_examples
from diptych.search.request import SearchRequest, direction
from diptych.search.retrieve import (
    PINNED,
    Retrieved,
    boosts_of,
    fuses_in_diptych,
    inputs_of,
    query_points,
    rank_branches,
    retrieve,
    retrieve_together,
)
from diptych.search.run import final_hits, on_current_view
from diptych.search.store_calls import read_store, scrolled
from diptych.slots.slot import Slot
from diptych.stores.nodes import one_search
from diptych.types import Document, Hit, Passage, Query, SparseVector, heading

NEAR = 1e-5  # how far sums of parts may be from the score, relative to scores above 1
PAGE = 1000  # points read at once; another program may have given many the same document id
SHOWN = 240  # characters of a passage in an explanation
TERMS = 12  # words of a slot that are shown


def explain(
    handle: CollectionHandle | View,
    query: str | Query,
    *,
    ids: Sequence[str] | None = None,
    **options: Unpack[ExplainOptions],
) -> Explanations:
    """Explanations of the hits, best first, or of the documents `ids`, hits or not, in their order.

    A hit that is deleted between its search and its explanation is left out, and the notes of the others name it.

    Args:
        handle, query, ids, options: as `Collection.explain`.

    Raises:
        DocumentNotFound: an id that the collection does not hold.
        SearchError: something that cannot be searched as asked.
    """
    checked = check_options(options, ExplainOptions, "explain")
    asked: SearchOptions = {**checked, "passages": 0, "highlight": False}

    with one_search():
        found = on_current_view(handle, lambda view: _explained(SearchRequest.of(view, [query], asked), ids))
        return Explanations(found, query=query)


def explained_hits(explained: Callable[[list[str]], Sequence[Explanation]], ids: Iterable[str]) -> list[Explanation]:
    """Explanations of hits of a search just made; hits that were deleted since then have none.

    Args:
        explained: explains documents by their ids, and raises DocumentNotFound for those that do not exist.
        ids: of the hits.
    """
    wanted = list(ids)
    while wanted:
        try:
            return list(explained(wanted))
        except DocumentNotFound as error:
            missing: Any = error.context["ids"]
            wanted = [identifier for identifier in wanted if identifier not in missing]
    return []


def _explained(request: SearchRequest, ids: Sequence[str] | None) -> list[Explanation]:
    if ids is not None:
        limit = request.pipeline.depth or request.pipeline.retrieve[0].candidates
        request = replace(request, limit=limit, wants=request.end)
    (retrieved,) = retrieve_together([request])
    (hits,) = final_hits(request, retrieved)
    places = {hit.id: hit.point for hit in reversed(hits)}
    wanted = [(hit.id, hit.point) for hit in hits] if ids is None else [(own, places.get(own)) for own in ids]
    records, shared, missing = _records(request, wanted)
    if missing and ids is not None:
        where = f"collection {request.view.name!r}"
        raise DocumentNotFound("there is no such document", where=where, got=repr(missing[0]), ids=missing)
    notes = [*retrieved.notes[0], *(f"deleted since it was found: {identifier}" for identifier in missing)]
    if request.like or request.unlike:
        names = ", ".join(slot.name for slot in slots_for_examples(request))
        counts = f"{len(request.like)} liked and {len(request.unlike)} unliked examples"
        notes.append(f"{counts} move the scores of: {names}")
    layout = request.view.layout
    found = [Hit(layout.read(record.id, record.payload), 0.0, point=record.id) for record in records]
    return _explanations(request, retrieved, hits, found, notes, shared)


def _explanations(
    request: SearchRequest,
    retrieved: Retrieved,
    hits: Sequence[Hit],
    found: Sequence[Hit],
    notes: Sequence[str],
    shared: Collection[PointId],
) -> list[Explanation]:
    """Those of the documents `found`: with the notes on all of them, and points that share their document's id."""
    pipeline, boost = request.pipeline, request.pipeline.boost
    points = [hit.point for hit in found if hit.point is not None]
    ((inputs,),) = inputs_of([request])
    (rankings,) = rank_branches(request, [inputs])
    parts = contributions(pipeline.fuse, rankings) if pipeline.fuse else {}
    fused = _fused(request, inputs, rankings)
    order = [*fused] if pipeline.fuse else [point for ranking in rankings.values() for point, _ in ranking]
    scores = _scores(request, inputs, points)
    slots = {
        branch.slot: _in_slot(request, branch.slot, inputs, rankings.get(branch.slot, ()), scores, parts, found)
        for branch in pipeline.retrieve
    }
    before, added = (_unboosted(request, inputs), boosts_of(request, points)) if boost else ({}, {})
    ranked = {hit.point: (rank, hit) for rank, hit in enumerate(hits, 1)}
    words = matching_words(request, [hit.document.text for hit in found])
    explanations = []
    for place, (point, one) in enumerate(zip(points, found, strict=True)):
        (rank, hit), own, boosts = ranked.get(point, (None, None)), [*notes], dict[str, float]()
        if boost and one.id in before and point in added:  # else it was not a candidate
            boosts = dict(zip(boost.labels(), boost.added(added[point], before[one.id]), strict=True))
        if hit and PINNED in hit.stages:
            own.append(PINNED)
        if point in shared:
            own.append(f"several points have this document's id; this explains point {point}")
        if point in parts and point in fused:
            total = sum(parts[point].values())
            if not math.isclose(total, fused[point], rel_tol=1e-3, abs_tol=1e-5):
                own.append(
                    f"the parts sum to {total:.4g}: stores may order equal scores, or fuse shards, in another way"
                )
        explanations.append(
            Explanation(
                document=one.document,
                pipeline=pipeline,
                rank=rank,
                score=hit.score if hit else None,
                slots={name: of_slot[point] for name, of_slot in slots.items()},
                fused=fused.get(point),
                boosts=boosts,
                stages=_stages(pipeline, scores, point, hit),
                lost="" if hit else _lost(request, retrieved, one, order),
                notes=tuple(own),
                words=words[place],
            )
        )
    return explanations


def _in_slot(
    request: SearchRequest,
    name: str,
    inputs: Inputs,
    ranking: Ranking,
    scores: Mapping[str, Mapping[PointId, float]],
    parts: Mapping[PointId, Mapping[str, float]],
    found: Sequence[Hit],
) -> dict[PointId, SlotScore]:
    """Each of the documents in a slot, by point."""
    slot, points = request.view.slots[name], [hit.point for hit in found if hit.point is not None]
    terms = matched_terms(request, slot, inputs[name], points) if slot.kind == "sparse" and name in inputs else {}
    (scored,) = with_passages(request, [found], None, slot=slot) if has_passages(slot) else (found,)
    ranks = {point: rank for rank, (point, _) in enumerate(ranking, 1)}
    shown = {}
    for point, hit in zip(points, scored, strict=True):
        best = next(iter(hit.passages), None)
        if best is not None and len(best.text) > SHOWN:
            best = replace(best, text=f"{best.text[:SHOWN].rstrip()}…")
        shown[point] = SlotScore(
            score=scores.get(name, {}).get(point),
            rank=ranks.get(point),
            contribution=parts[point].get(name, 0.0) if point in parts else None,
            terms=terms.get(point, ()),
            passage=best,
            passages=len(hit.passages),
        )
    return shown


def _stages(
    pipeline: Pipeline, scores: Mapping[str, Mapping[PointId, float]], point: PointId, hit: Hit | None
) -> dict[str, float]:
    """Scores after fusion. Those of Qdrant's stages are known also for documents that they cut off."""
    stages = {}
    if pipeline.rescore and point in scores.get(pipeline.rescore.slot, {}):
        stages[pipeline.rescore.slot] = scores[pipeline.rescore.slot][point]
    skipped = {PINNED, *(() if pipeline.rescore else (branch.slot for branch in pipeline.retrieve))}
    skipped |= {pipeline.fuse.label} if pipeline.fuse else set()
    shown = hit.stages if hit else {}
    return {**stages, **{name: score for name, score in shown.items() if name not in skipped}}


def _lost(request: SearchRequest, retrieved: Retrieved, found: Hit, order: Sequence[PointId | None]) -> str:
    """Where a document was left behind; `order` are the points after retrieval, best first."""
    pipeline = request.pipeline
    if found.id in request.exclude:
        return "excluded by id"
    if found.point not in order:
        return "not among the candidates of any slot"
    position = order.index(found.point) + 1
    if stage := retrieved.unscored[0].get(found.id):
        return f"{position}. after retrieval, and not scored by {stage!r}, which had settled the best before"
    limiting = next((stage for stage in pipeline.stages if getattr(stage, "candidates", position) < position), None)
    later_stages = pipeline.stages[1:] if pipeline.fuse else pipeline.stages
    if limiting is not None and limiting in later_stages[:1]:
        return f"{position}. after retrieval, and {limiting!r} reads no further"
    if later_stages:
        return f"{position}. after retrieval, then passed over by {pipeline.stages[-1]!r}"
    return f"{position}. in all"


def _scores(request: SearchRequest, inputs: Inputs, points: Sequence[PointId]) -> dict[str, dict[PointId, float]]:
    """For each slot the points' scores, higher is better; points without a score are left out. One call for all."""
    if not points:
        return {}
    slots = {name: request.view.slots[name] for name in inputs}
    asked = [_of_points(request, points, inputs[name], slot) for name, slot in slots.items()]
    answers = zip(slots.items(), query_points(request.view, asked), strict=True)
    return {name: {point.id: direction(slot) * point.score for point in found} for (name, slot), found in answers}


def _fused(request: SearchRequest, inputs: Inputs, rankings: Mapping[str, Ranking]) -> dict[PointId, float]:
    """The fused scores, best first: Qdrant's own, or the host's where the host fuses."""
    fusion = request.pipeline.fuse
    if fusion is None:
        return {}
    if fuses_in_diptych(request):
        return dict(fuse(fusion, rankings))
    width = sum(len(ranking) for ranking in rankings.values())
    (points,) = query_points(request.view, [fusion_request(request, inputs, limit=max(1, width))])
    return {point.id: point.score for point in points}


def _unboosted(request: SearchRequest, inputs: Inputs) -> dict[str, float]:
    """The scores before the boost, by document id."""
    before = replace(request.pipeline, boost=None, rerank=())
    limit = before.depth or before.retrieve[0].candidates
    whole = replace(request, pipeline=before, limit=limit, offset=0, with_payload=False)
    ((hits,),) = retrieve([whole], [[inputs]])
    return {hit.id: hit.score for hit in hits}


def _records(
    request: SearchRequest, wanted: Sequence[tuple[str, PointId | None]]
) -> tuple[list[models.Record], set[PointId], list[str]]:
    """The points of these documents in order, those that share their document id with others, and the ids without any.

    Args:
        wanted: the id of each document, and the point that was found, which is chosen if several have the id.
    """
    view, found = request.view, dict[str, list[models.Record]]()
    ids = list(dict.fromkeys(identifier for identifier, _ in wanted))
    scoped, shard_key = narrowed(request.scope, view.layout.id_filter(ids)), request.shard_key.get("shard_key")
    for page in scrolled(view, scoped, PAGE, payload=request.selector, shard_key=shard_key) if ids else ():
        for record in page:
            found.setdefault(view.layout.read(record.id, record.payload).id, []).append(record)
    records = [
        next((record for record in same if record.id == point), same[0])
        for identifier, point in wanted
        if (same := found.get(identifier))
    ]
    shared = {record.id for same in found.values() if len(same) > 1 for record in same}
    return records, shared, [identifier for identifier in ids if identifier not in found]


def matched_terms(
    request: SearchRequest, slot: Slot, query: models.SparseVector, points: Sequence[PointId]
) -> dict[PointId, tuple[Term, ...]]:
    """For each point the terms it shares with the query, the largest contributions first.

    Each term is searched alone, so that the store itself computes its contribution, IDF included.
    """
    weights = dict(zip(query.indices, query.values, strict=True))
    view, names = request.view, [slot.vector]
    records = read_store(view, lambda: view.client.retrieve(view.name, points, with_payload=False, with_vectors=names))
    stored: dict[PointId, dict[int, float]] = {}  # the points' document weights by term
    for record in records:
        vector: Any = (record.vector or {}).get(slot.vector)  # type: ignore[union-attr]
        stored[record.id] = {} if vector is None else dict(zip(vector.indices, vector.values, strict=True))
    shared = [index for index in weights if any(index in vector for vector in stored.values())]
    alone = [models.SparseVector(indices=[index], values=[weights[index]]) for index in shared]
    answers = query_points(request.view, [_of_points(request, points, vector, slot) for vector in alone])
    terms: dict[PointId, list[Term]] = {point: [] for point in points}
    for index, found in zip(shared, answers, strict=True):
        asked = weights[index]
        ((word, _), *_) = slot.encoder.decode(SparseVector(np.array([index], np.uint32), np.array([asked], np.float32)))
        for point in found:
            weight = stored.get(point.id, {}).get(index, 0.0)  # a point may be written after `stored` was read
            idf = point.score / (asked * weight) if asked * weight else 1.0
            terms[point.id].append(Term(word, asked, weight, idf, point.score))
    return {point: tuple(sorted(found, key=lambda term: -term.contribution)) for point, found in terms.items()}


def _of_points(request: SearchRequest, points: Sequence[PointId], query: Any, slot: Slot) -> models.QueryRequest:
    chosen = narrowed(request.scope, models.Filter(must=[models.HasIdCondition(has_id=list(points))]))
    return models.QueryRequest.model_construct(
        query=query.query if isinstance(query, QueryWithExamples) else query,
        using=slot.vector or None,
        filter=chosen,
        params=params_for(request, slot, None),
        limit=len(points),
        with_payload=False,
        **request.shard_key,
    )


@dataclass(frozen=True, slots=True)
class Term:
    """A term that query and document share: `contribution` = `query` * `document` * `idf`; `idf` is 1 without IDF."""

    word: str
    query: float
    document: float
    idf: float
    contribution: float

    def __str__(self) -> str:
        return f"{self.word} {self.contribution:.4f} = {self.query:.4f} x {self.document:.4f} x idf {self.idf:.4f}"


@dataclass(frozen=True, slots=True)
class SlotScore:
    """A document in one slot.

    Args:
        score: similarity of query and document, None when the slot gives it none, such as without a common term.
        rank: place among the slot's candidates, from 1; None when it is not one of them.
        contribution: what the slot adds to the fused score; None without fusion or when no slot retrieved the document.
        terms: of a sparse slot, the terms that query and document share; their contributions add up to `score`.
        passage: of a slot with passages, the best one; its text is shortened, `start` and `end` are whole.
        passages: how many the document has there.
    """

    score: float | None = None
    rank: int | None = None
    contribution: float | None = None
    terms: tuple[Term, ...] = ()
    passage: Passage | None = None
    passages: int = 0


@dataclass(frozen=True, slots=True)
class ScorePart:
    """A part of a document's score.

    Args:
        name: of the slot, word, boost or stage.
        kind: `slot`: its contribution to the fusion, or its score where it is alone. `word`: of a slot that is
            alone. `boost`: what it adds. `stage`: a later stage's score, which replaces those before it. `rest`: what
            the score differs by from the sum of the other parts, as with approximate scores of quantized vectors.
        value: what it adds to the score.
    """

    name: str
    kind: Literal["slot", "word", "boost", "stage", "rest"]
    value: float


@dataclass(frozen=True, slots=True)
class Explanation(Displayed):
    """Why one document has its rank.

    Args:
        document: the document.
        pipeline: what was run.
        rank, score: place among the hits from 1, and final score; None when it is not among them.
        slots: the document in each retrieved slot.
        fused: the fused score, the sum of the slots' contributions; None without fusion or when not retrieved.
        boosts: what each part of the boost adds; the score before it plus these is the score of the stage `boost`.
        stages: the score that each later stage gave, in order.
        lost: where the document was left behind, when it is not a hit.
        words: begin and end of each word of the document's text that a sparse slot matches.
        notes: remarks on this search, such as that a reranker reached its deadline.
    """

    document: Document
    pipeline: Pipeline
    rank: int | None
    score: float | None
    slots: Mapping[str, SlotScore]
    fused: float | None = None
    boosts: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    lost: str = ""
    notes: tuple[str, ...] = ()
    words: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return str(self.display())

    def display(self) -> Display:
        """Rank and score, the figures of each slot and stage, and the parts that the score is the sum of."""
        is_hit = self.rank is not None and self.score is not None
        lost = f"rank {self.rank}, score {self.score:.4f}" if is_hit else f"no hit: {self.lost}"
        rows = []
        for name, own in self.slots.items():
            because = ", ".join(f"{term.word} {term.contribution:.4f}" for term in own.terms[:TERMS])
            because += f", and {len(own.terms) - TERMS} more" if len(own.terms) > TERMS else ""
            if own.passage and not because:
                places = f"{own.passage.start} to {own.passage.end}"
                because = f"best of {own.passages} passages, {places}: {own.passage.text}"
            rank = "no candidate" if own.rank is None else f"{own.rank}"
            score = "" if own.score is None else f"{own.score:.4f}"
            adds = "" if own.contribution is None else f"{own.contribution:+z.4f}"
            rows.append((name, rank, score, adds, because))
        if self.fused is not None and self.pipeline.fuse:
            rows.append((self.pipeline.fuse.label, "", "", f"={self.fused:.4f}", ""))
        rows += [(name, "", "", f"{added:+z.4f}", "") for name, added in self.boosts.items()]
        rows += [(name, "", f"{score:.4f}", "", "") for name, score in self.stages.items()]
        columns = ("slot or stage", "rank", "score", "adds", "matching words or best passage")
        named = (("approximation" if part.kind == "rest" else part.name, part.value) for part in self.parts)
        parts = ", ".join(f"{name} {value:+z.4f}" for name, value in named)
        document = self.document
        text = [Excerpt(document.text, self.words)] if document.text else []
        figures = Table(columns, rows, numbers=(1, 2, 3))
        sums = [f"the score is {parts}"] if parts else []
        title = f"{document.id}: {document.title}" if document.title.strip() else document.id
        return Display(f"{lost}: {title}", [*text, figures, *sums, *self.notes])

    @property
    def parts(self) -> tuple[ScorePart, ...]:
        """The parts that the score is the sum of; for a document that is no hit, of the last score that is known."""
        parts = self._parts()
        rest = 0.0 if self.score is None else self.score - sum(part.value for part in parts)
        close = abs(rest) <= NEAR * max(1.0, abs(self.score or 0.0))
        return parts if close else (*parts, ScorePart("rest", "rest", rest))

    def _parts(self) -> tuple[ScorePart, ...]:
        """The parts without the rest: the last stage that gave the whole score, else those of retrieval, and boosts."""
        boosts = tuple(ScorePart(name, "boost", value) for name, value in self.boosts.items())
        pipeline, rescore, last = self.pipeline, self.pipeline.rescore, ""
        if self.score is not None:
            stage = pipeline.rerank[-1] if pipeline.rerank else pipeline.diversify
            last = PINNED if PINNED in self.notes else stage.label if stage else ""
        if last and self.score is not None:
            return (ScorePart(last, "stage", self.score),)
        if rescore:
            added = sum(part.value for part in boosts)
            value = self.stages.get(rescore.slot) if self.score is None else self.score - added
            return (*(() if value is None else (ScorePart(rescore.slot, "stage", value),)), *boosts)
        if pipeline.fuse:
            shares = ((name, own.contribution) for name, own in self.slots.items())
            return (*(ScorePart(name, "slot", value) for name, value in shares if value is not None), *boosts)
        ((name, own),) = self.slots.items()
        words = tuple(ScorePart(term.word, "word", term.contribution) for term in own.terms)
        return (*(words or (() if own.score is None else (ScorePart(name, "slot", own.score),))), *boosts)

    def as_dict(self) -> dict[str, Any]:
        """Everything except the document as JSON values; the pipeline as text."""
        slots = {name: {**asdict(slot), "terms": [*map(asdict, slot.terms)]} for name, slot in self.slots.items()}
        numbers = {"rank": self.rank, "score": self.score, "fused": self.fused, "stages": dict(self.stages)}
        numbers["boosts"] = dict(self.boosts)
        rest = {"lost": self.lost, "notes": [*self.notes], "words": [*map(list, self.words)]}
        return {"pipeline": repr(self.pipeline), **numbers, "slots": slots, **rest}


class Explanations(Displayed, list[Explanation]):
    """The explanations of one query: a list that notebooks show as pictures.

    Args:
        explanations: in their order.
        query: what was asked.
    """

    __slots__ = ("query",)

    def __init__(self, explanations: Iterable[Explanation] = (), *, query: str | Query = "") -> None:
        super().__init__(explanations)
        self.query = query

    def display(self) -> Display:
        """One below the other; remarks on the search, which come with each document, once."""
        shown = [replace(own, notes=()).display() for own in self]
        remarks = dict.fromkeys(note for own in self for note in own.notes)
        return Display(heading(len(self), "document", self.query), [*shown, *remarks])
