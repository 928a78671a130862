"""`explain`: why a document has its rank, in numbers that add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from diptych.collection.explanation import Explanation, Explanations, SlotScore, Term
from diptych.collection.score_documents import BlocksLike, blocks_of_slots, matched_terms, scores_of
from diptych.config.stages import Rerank
from diptych.errors import DocumentNotFound
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import narrowed
from diptych.metadata.payloads import from_payload, id_filter
from diptych.search.excerpts.highlights import matching_words
from diptych.search.excerpts.passages import has_passages, with_passages
from diptych.search.fusion import PointId, Ranking, contributions, fuse
from diptych.search.options import ExplainOptions, options_of
from diptych.search.pins import PINNED
from diptych.search.qdrant.feedback import slots_for_examples
from diptych.search.qdrant.query import Inputs, fusion_request
from diptych.search.qdrant.retrieval import boosts_of, fuses_in_diptych, query_points, rank_branches, retrieve
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.search.retrieve import inputs_of, retrieve_together
from diptych.search.run import on_current_view, reranked
from diptych.slots.slot import Slot
from diptych.types import Hit, Passage, Query

if TYPE_CHECKING:
    from qdrant_client import models

SEVERAL = 1000  # points with one document id that are searched for the one that was found
SHOWN = 240  # characters of a passage in an explanation


def explain(
    handle: CollectionHandle | View,
    query: str | Query,
    *,
    ids: Sequence[str] | None = None,
    blocks: BlocksLike | None = None,
    **options: Unpack[ExplainOptions],
) -> Explanations:
    """Explanations of the hits, best first, or of the documents `ids`, hits or not, in their order.

    A hit that is deleted between its search and its explanation is left out, and the notes of the others name it.

    Args:
        handle, query, ids, options: as `Collection.explain`.
        blocks: by dense slot, the widths of the blocks of its vectors, in order, or their names and widths:
            `{"dense": {"minilm": 384, "small": 384}}`. Those that an encoder declares need not be given.

    Raises:
        DocumentNotFound: an id that the collection does not hold.
        SearchError: something that cannot be searched as asked.
    """
    asked = options_of(options, "explain", passages=0, highlight=False)

    def answer(view: View) -> list[Explanation]:
        return _explained(SearchRequest.of(view, [query], asked), ids, blocks)

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


def _explained(request: SearchRequest, ids: Sequence[str] | None, blocks: BlocksLike | None) -> list[Explanation]:
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
    return _Explainer(request, hits, unscored, records, shared, notes, blocks).explanations()


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
        blocks: BlocksLike | None,
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
        self._found = [Hit(from_payload(record.id, record.payload, layout), 0.0, point=record.id) for record in records]
        self._words = dict(
            zip(self._points, matching_words(request, [hit.document.text for hit in self._found]), strict=True)
        )
        self._passages = {slot.name: self._passages_of(slot) for slot in slots if has_passages(slot)}
        self._blocks, lacking = blocks_of_slots(request, self._inputs, self._scores, blocks)
        self._notes = (*notes, *_notes_on_examples(request), *lacking)
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
        document = from_payload(record.id, record.payload, self._request.view.layout)
        rank, hit = self._hits.get(record.id, (None, None))
        return Explanation(
            document=document,
            pipeline=self._request.pipeline,
            rank=rank,
            score=hit.score if hit else None,
            slots={b.slot: self._slot(b.slot, record.id) for b in self._request.pipeline.retrieve},
            fused=self._fused.get(record.id),
            boosts=self._boosts(record.id, document.id),
            stages=self._stages(record.id, hit),
            lost="" if hit else self._lost(record.id, document.id),
            notes=(*self._notes, *self._notes_on(record.id, hit)),
            words=self._words[record.id],
        )

    def _passages_of(self, slot: Slot) -> dict[PointId, tuple[Passage, ...]]:
        """The passages of each document to explain, best first."""
        (scored,) = with_passages(self._request, [self._found], None, slot=slot)
        return {hit.point: hit.passages for hit in scored if hit.point is not None}

    def _slot(self, name: str, point: PointId) -> SlotScore:
        order = [candidate for candidate, _ in self._rankings.get(name, ())]
        passages = self._passages.get(name, {}).get(point, ())
        return SlotScore(
            score=self._scores.get(name, {}).get(point),
            rank=order.index(point) + 1 if point in order else None,
            contribution=self._parts[point].get(name, 0.0) if point in self._parts else None,
            terms=self._terms.get(name, {}).get(point, ()),
            blocks=self._blocks.get(name, {}).get(point, ()),
            passage=_shortened(passages[0]) if passages else None,
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

    def _boosts(self, point: PointId, identifier: str) -> dict[str, float]:
        """What each part of the boost adds to the document's score; empty if it was not a candidate."""
        boost, before, values = self._request.pipeline.boost, self._unboosted.get(identifier), self._added.get(point)
        if boost is None or before is None or values is None:
            return {}
        return dict(zip(boost.labels(), boost.added(values, before), strict=True))

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
            also = ", and not found by exploring" if any(stage.explore for stage in pipeline.rerank) else ""
            return f"not among the candidates of any slot{also}"
        if stage := self._unscored.get(identifier):
            why = "spent its budget on others" if stage.explore else "had settled the best before"
            return f"{position}. after retrieval, and not scored by {stage!r}, which {why}"
        limiting = next((stage for stage in pipeline.stages if getattr(stage, "candidates", position) < position), None)
        later_stages = pipeline.stages[1:] if pipeline.fuse else pipeline.stages
        if limiting is not None and limiting in later_stages[:1]:
            return f"{position}. after retrieval, and {limiting!r} reads no further"
        if later_stages:
            return f"{position}. after retrieval, then passed over by {pipeline.stages[-1]!r}"
        return f"{position}. in all"


def _shortened(passage: Passage) -> Passage:
    text = passage.text
    return passage if len(text) <= SHOWN else replace(passage, text=f"{text[:SHOWN].rstrip()}…")


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


def _notes_on_examples(request: SearchRequest) -> Iterable[str]:
    if request.like or request.unlike:
        names = ", ".join(slot.name for slot in slots_for_examples(request))
        yield f"{len(request.like)} liked and {len(request.unlike)} unliked examples move the scores of: {names}"


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
    scoped = narrowed(request.scope, id_filter(ids, handle.layout))
    records, _ = read_store(
        handle, lambda: handle.client.scroll(handle.name, scoped, limit=limit, with_payload=request.selector, **keys)
    )
    found: dict[str, list[models.Record]] = {}
    for record in records:
        found.setdefault(from_payload(record.id, record.payload, handle.layout).id, []).append(record)
    return found


__all__ = ["Explanation", "Explanations", "SlotScore", "Term", "explain", "explained_hits"]
