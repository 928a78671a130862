"""`explain`: why a document has its rank, in numbers that add up: an `Explanation` for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

from diptych.collection.score_documents import Term, matched_terms, scores_of
from diptych.config.stages import Rerank
from diptych.display import Display, Displayed, Excerpt, Table
from diptych.errors import DocumentNotFound
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.search.excerpts import has_passages, matching_words, with_passages
from diptych.search.fusion import PointId, Ranking, contributions, fuse
from diptych.search.options import ExplainOptions, SearchOptions, check_options
from diptych.search.pipeline import Pipeline
from diptych.search.query import Inputs, fusion_request, slots_for_examples
from diptych.search.request import SearchRequest
from diptych.search.retrieve import (
    PINNED,
    boosts_of,
    fuses_in_diptych,
    inputs_of,
    query_points,
    rank_branches,
    retrieve,
    retrieve_together,
)
from diptych.search.run import on_current_view, reranked
from diptych.search.store_calls import read_store
from diptych.stores.nodes import one_search
from diptych.types import Document, Hit, Passage, Query, heading

if TYPE_CHECKING:
    from qdrant_client import models

NEAR = 1e-5  # how far sums of parts may be from the score, relative to scores above 1

SEVERAL = 1000  # points with one document id that are searched for the one that was found
SHOWN = 240  # characters of a passage in an explanation


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

    def answer(view: View) -> list[Explanation]:
        return _explained(SearchRequest.of(view, [query], asked), ids)

    with one_search():
        return Explanations(on_current_view(handle, answer), query=query)


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
    (hits,), (unscored,) = reranked(request, retrieved), retrieved.unscored
    places = {hit.id: hit.point for hit in reversed(hits)}
    wanted = (
        [(hit.id, hit.point) for hit in hits]
        if ids is None
        else [(identifier, places.get(identifier)) for identifier in ids]
    )
    records, shared, missing = _records(request, wanted)
    if missing and ids is not None:
        where = f"collection {request.view.name!r}"
        raise DocumentNotFound("there is no such document", where=where, got=repr(missing[0]), ids=missing)
    notes = (*retrieved.notes[0], *(f"deleted since it was found: {identifier}" for identifier in missing))
    return _Explainer(request, hits, unscored, records, shared, notes).explanations()


class _Explainer:
    """One query's hits and the documents to explain, with all needed scores."""

    def __init__(
        self,
        request: SearchRequest,
        hits: Sequence[Hit],
        unscored: Mapping[str, Rerank],
        records: Sequence[models.Record],
        shared: Collection[PointId],
        notes: Sequence[str],
    ) -> None:
        self._request, self._unscored, self._shared = request, unscored, shared
        self._hits = {hit.point: (rank, hit) for rank, hit in enumerate(hits, 1)}
        self._records = records
        self._points = [record.id for record in records]
        slots = [request.view.slots[name] for name in request.pipeline.slots]
        ((self._inputs,),) = inputs_of([request])
        (self._rankings,) = rank_branches(request, [self._inputs])
        self._scores = scores_of(request, self._inputs, self._points)
        self._terms = {
            slot.name: matched_terms(request, slot, self._inputs[slot.name], self._points)
            for slot in slots
            if slot.kind == "sparse" and slot.name in self._inputs
        }
        layout = request.view.layout
        self._found = [Hit(layout.read(record.id, record.payload), 0.0, point=record.id) for record in records]
        self._words = dict(
            zip(self._points, matching_words(request, [hit.document.text for hit in self._found]), strict=True)
        )
        self._passages: dict[str, dict[PointId, tuple[Passage, ...]]] = {}  # of each document to explain, best first
        for slot in filter(has_passages, slots):
            (scored,) = with_passages(request, [self._found], None, slot=slot)
            self._passages[slot.name] = {hit.point: hit.passages for hit in scored if hit.point is not None}
        self._notes = tuple(notes)
        if request.like or request.unlike:
            names = ", ".join(slot.name for slot in slots_for_examples(request))
            counts = f"{len(request.like)} liked and {len(request.unlike)} unliked examples"
            self._notes += (f"{counts} move the scores of: {names}",)
        fusion = request.pipeline.fuse
        self._parts = contributions(fusion, self._rankings) if fusion else {}
        self._fused = _fused(request, self._inputs, self._rankings)
        boosted = request.pipeline.boost is not None
        self._unboosted = _unboosted(request, self._inputs) if boosted else {}
        self._added = boosts_of(request, self._points) if boosted else {}

    def explanations(self) -> list[Explanation]:
        """One for each document, in order."""
        return [*map(self._explanation, self._records)]

    def _explanation(self, record: models.Record) -> Explanation:
        document = self._request.view.layout.read(record.id, record.payload)
        rank, hit = self._hits.get(record.id, (None, None))
        boost, before = self._request.pipeline.boost, self._unboosted.get(document.id)
        values, boosts = self._added.get(record.id), dict[str, float]()
        if boost is not None and before is not None and values is not None:  # else it was not a candidate
            boosts = dict(zip(boost.labels(), boost.added(values, before), strict=True))
        return Explanation(
            document=document,
            pipeline=self._request.pipeline,
            rank=rank,
            score=hit.score if hit else None,
            slots={b.slot: self._slot(b.slot, record.id) for b in self._request.pipeline.retrieve},
            fused=self._fused.get(record.id),
            boosts=boosts,
            stages=self._stages(record.id, hit),
            lost="" if hit else self._lost(record.id, document.id),
            notes=(*self._notes, *self._notes_on(record.id, hit)),
            words=self._words[record.id],
        )

    def _slot(self, name: str, point: PointId) -> SlotScore:
        order = [candidate for candidate, _ in self._rankings.get(name, ())]
        passages = self._passages.get(name, {}).get(point, ())
        best = passages[0] if passages else None
        if best is not None and len(best.text) > SHOWN:
            best = replace(best, text=f"{best.text[:SHOWN].rstrip()}…")
        return SlotScore(
            score=self._scores.get(name, {}).get(point),
            rank=order.index(point) + 1 if point in order else None,
            contribution=self._parts[point].get(name, 0.0) if point in self._parts else None,
            terms=self._terms.get(name, {}).get(point, ()),
            passage=best,
            passages=len(passages),
        )

    def _notes_on(self, point: PointId, hit: Hit | None) -> Iterable[str]:
        """Notes on a pin, a document id that several points share, and parts that do not sum to the fused score."""
        if hit and PINNED in hit.stages:
            yield "pinned"
        if point in self._shared:
            yield f"several points have this document's id; this explains point {point}"
        if point in self._parts and point in self._fused:
            total = sum(self._parts[point].values())
            if not math.isclose(total, self._fused[point], rel_tol=1e-3, abs_tol=1e-5):
                yield f"the parts sum to {total:.4g}: stores may order equal scores, or fuse shards, in another way"

    def _stages(self, point: PointId, hit: Hit | None) -> dict[str, float]:
        """Scores after fusion. Those of Qdrant's stages are known also for documents that they cut off."""
        pipeline, stages = self._request.pipeline, {}
        if pipeline.rescore and point in self._scores.get(pipeline.rescore.slot, {}):
            stages[pipeline.rescore.slot] = self._scores[pipeline.rescore.slot][point]
        shown = hit.stages if hit else {}
        skipped = {PINNED, *(() if pipeline.rescore else (branch.slot for branch in pipeline.retrieve))}
        fused = pipeline.fuse.label if pipeline.fuse else ""
        return {**stages, **{name: score for name, score in shown.items() if name != fused and name not in skipped}}

    def _lost(self, point: PointId, identifier: str) -> str:
        pipeline = self._request.pipeline
        if identifier in self._request.exclude:
            return "excluded by id"
        orders = [self._fused] if pipeline.fuse else [dict(ranking) for ranking in self._rankings.values()]
        position = next((list(order).index(point) + 1 for order in orders if point in order), None)
        if position is None:
            return "not among the candidates of any slot"
        if stage := self._unscored.get(identifier):
            return f"{position}. after retrieval, and not scored by {stage!r}, which had settled the best before"
        limiting = next((stage for stage in pipeline.stages if getattr(stage, "candidates", position) < position), None)
        later_stages = pipeline.stages[1:] if pipeline.fuse else pipeline.stages
        if limiting is not None and limiting in later_stages[:1]:
            return f"{position}. after retrieval, and {limiting!r} reads no further"
        if later_stages:
            return f"{position}. after retrieval, then passed over by {pipeline.stages[-1]!r}"
        return f"{position}. in all"


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
    ids = list(dict.fromkeys(identifier for identifier, _ in wanted))
    found = _with_ids(request, ids, len(ids) + 1) if ids else {}
    if sum(map(len, found.values())) > len(ids):  # the points of one document may have used up the limit
        found = {identifier: _with_ids(request, [identifier], SEVERAL).get(identifier, []) for identifier in ids}
    records = [
        next((record for record in same if record.id == point), same[0])
        for identifier, point in wanted
        if (same := found.get(identifier))
    ]
    shared = {record.id for same in found.values() if len(same) > 1 for record in same}
    return records, shared, [identifier for identifier in ids if not found.get(identifier)]


def _with_ids(request: SearchRequest, ids: Sequence[str], limit: int) -> dict[str, list[models.Record]]:
    """The points whose documents have these ids, by id, `limit` at most."""
    handle, keys = request.view, request.shard_key_selector
    scoped = narrowed(request.scope, handle.layout.id_filter(ids))
    records, _ = read_store(
        handle, lambda: handle.client.scroll(handle.name, scoped, limit=limit, with_payload=request.selector, **keys)
    )
    found: dict[str, list[models.Record]] = {}
    for record in records:
        found.setdefault(handle.layout.read(record.id, record.payload).id, []).append(record)
    return found


__all__ = ["Explanation", "Explanations", "SlotScore", "Term", "explain", "explained_hits"]


TERMS = 12  # words of a slot that are shown


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
            rerankers = pipeline.rerank[-1].label if pipeline.rerank else "mmr" if pipeline.diversify else ""
            last = PINNED if PINNED in self.notes else rerankers
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
