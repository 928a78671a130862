"""Qdrant's requests for a pipeline: retrieval, fusion, rescoring, diversification and boosts nested in one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

from qdrant_client import models

from diptych.config.models import CANDIDATES
from diptych.config.stages import Dbsf, Linear, Rrf
from diptych.errors import DocumentNotFound, SearchError
from diptych.handle.view import Memo, View, narrowed, with_ids
from diptych.metadata.models import Prefix
from diptych.runtime.unchecked import unchecked_in_part
from diptych.search.fusion import PointId
from diptych.search.request import MOST_HITS, SearchRequest, direction, with_media_read
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot, vectors_of_queries
from diptych.stores.versions import FEEDBACK, is_local, require_version
from diptych.types import Query

WEIGHT = 0.5  # the weight of the examples; that of the query is 1
Vectors = dict[str | Query, list[float]]

Input: TypeAlias = Any  # list of floats, list of lists, models.SparseVector, models.TextQuery or QueryWithExamples
Inputs: TypeAlias = Mapping[str, Input]  # by slot; a slot for which the query has no terms is left out
TIE_BREAK = 1e-5
# Built without validation: checking each of a request's floats costs more than Edge's search.
_prefetch, _request = unchecked_in_part(models.Prefetch), unchecked_in_part(models.QueryRequest)


@dataclass(frozen=True, slots=True)
class QueryWithExamples:
    """A dense query with examples: its own vector, and the feedback query that is sent to Qdrant in retrieval."""

    vector: list[float]
    query: models.RelevanceFeedbackQuery


def without_examples(query: Input) -> Any:
    """The query itself, without examples."""
    return query.vector if isinstance(query, QueryWithExamples) else query


@dataclass(frozen=True, slots=True)
class _Level:
    """A query over the points of the queries nested in it; `reads` limits how many, 0 for all."""

    query: Any
    using: str | None
    reads: int


def branch_requests(request: SearchRequest, inputs: Inputs) -> dict[str, models.QueryRequest]:
    """For each retrieved slot, the request for its candidates alone: ids and scores."""
    more = {**request.shard_key, "with_payload": False}
    return {slot: _request({**leaf, **more}) for slot, leaf in _leaves(request, inputs).items()}


def pipeline_request(
    request: SearchRequest, inputs: Inputs, *, limit: int, offset: int = 0
) -> models.QueryRequest | None:
    """The Qdrant part of a pipeline that Qdrant fuses, for one query; None if nothing can be found."""
    leaves, later = _leaves(request, inputs, offset + limit), _later(request, inputs)
    if not leaves or later is None:
        return None
    if request.pipeline.fuse is None:
        (leaf,) = leaves.values()
        if not later:
            page = {"limit": limit, "offset": offset, "with_payload": request.selector}
            return _request({**leaf, **request.shard_key, **page})
        leaf["limit"] = min(leaf["limit"], later[0].reads)
        return _nest([_prefetch(leaf)], later, request, limit, offset)
    nodes, level = _fused(request, leaves)
    return _nest(nodes, [level, *later], request, limit, offset)


def fusion_request(request: SearchRequest, inputs: Inputs, *, limit: int) -> models.QueryRequest | None:
    """Retrieval and fusion alone: ids and fused scores."""
    leaves = _leaves(request, inputs)
    if not leaves or request.pipeline.fuse is None:
        return None
    nodes, level = _fused(request, leaves)
    fields = {"prefetch": nodes, "query": level.query, "limit": limit, "with_payload": False}
    return _request({**fields, **request.shard_key})


def rest_request(
    request: SearchRequest, inputs: Inputs, points: Sequence[PointId], *, limit: int, offset: int
) -> models.QueryRequest | None:
    """The steps after a fusion that diptych computed: rescoring and diversification of these points, best first."""
    later = _later(request, inputs)
    if not points or not later:
        return None
    first, *others = later
    width = others[0].reads if others else limit
    ids = models.Filter(must=[models.HasIdCondition(has_id=list(points[: first.reads]))])
    chosen = narrowed(request.scope, ids)
    leaf = {"query": first.query, "using": first.using, "filter": chosen, "limit": width}
    if not others:
        return _request({**leaf, **request.shard_key, "offset": offset, "with_payload": request.selector})
    return _nest([_prefetch(leaf)], others, request, limit, offset)


def _leaves(request: SearchRequest, inputs: Inputs, width: int = 0) -> dict[str, dict[str, Any]]:
    """The retrieval of each slot, without slots for which the query has no terms, as fields of a prefetch or request.

    `width`: hits wanted from a single slot, if more than its candidates.
    """
    leaves = {}
    for branch in request.pipeline.retrieve:
        if branch.slot not in inputs:
            continue
        slot, params = request.view.slots[branch.slot], branch.params if request.params is None else request.params
        if request.scope is not None:
            params = params_for(request, slot, params)
        generation = slot.generation
        assert generation is not None, "only a collection that exists is searched"
        nearest = Nearest(inputs[branch.slot], generation.vector or None, params, branch.candidates, request.filter)
        first_stage = generation.first_stage if generation.storage else None
        leaves[branch.slot] = nearest.fields(first_stage, generation.storage, width)
    return leaves


@dataclass(frozen=True, slots=True)
class Nearest:
    """The points nearest to a query by the vector `using`."""

    query: Any
    using: str | None
    params: models.SearchParams | None
    limit: int
    filter: models.Filter | None = None

    def request(self, first: Prefix | None, storage: Mapping[str, Any]) -> models.QueryRequest:
        """A request for ids and scores alone."""
        return _request({**self.fields(first, storage, CANDIDATES), "with_payload": False})

    def fields(self, first: Prefix | None, storage: Mapping[str, Any], width: int) -> dict[str, Any]:
        """The fields of a prefetch or request; with a first stage, its best candidates are scored by the full vectors.

        Args:
            first, storage: the slot's first stage and storage.
            width: hits wanted, if more than `limit`.
        """
        sent = vector = self.query
        if isinstance(vector, QueryWithExamples):
            sent, vector = vector.query, vector.vector
        found = {"query": sent, "using": self.using, "filter": self.filter, "params": self.params}
        if first is None or (self.params is not None and self.params.exact):
            return {**found, "limit": self.limit}
        reads = min(MOST_HITS, math.ceil(first.oversampling * max(self.limit, width)))
        first_fields = {**found, "query": vector[: first.dimension], "using": first.vector, "limit": reads}
        params = _by_originals() if storage.get("quantization") else None
        return {**found, "params": params, "limit": self.limit, "prefetch": [_prefetch(first_fields)]}


def params_for(request: SearchRequest, slot: Slot, params: models.SearchParams | None) -> models.SearchParams | None:
    """The parameters with which a slot is searched: IDF counts the tenant's documents only, if the store can."""
    if request.scope is None or slot.kind not in ("sparse", "text_index"):
        return params
    if is_local(request.view.client) if slot.kind == "text_index" else slot.vector not in _with_idf(request.view):
        return params
    idf_params = params.idf if params else None
    corpus = narrowed(request.scope, idf_params.corpus if isinstance(idf_params, models.IdfCorpusParams) else None)
    assert corpus is not None, "a scope narrows to a filter"
    idf = models.IdfCorpusParams(corpus=corpus)
    return (params or models.SearchParams()).model_copy(update={"idf": idf})


@Memo
def _with_idf(view: View) -> frozenset[str]:
    """The sparse vectors with an IDF modifier; for others a store refuses the tenant's IDF statistics."""
    vectors = read_store(view, lambda: view.client.get_collection(view.name)).config.params.sparse_vectors or {}
    return frozenset(name for name, params in vectors.items() if params.modifier == models.Modifier.IDF)


def _later(request: SearchRequest, inputs: Inputs) -> list[_Level] | None:
    """Rescoring, boost and diversification; None if the query has no terms for their slots."""
    rescore, diversify, slots = request.pipeline.rescore, request.pipeline.diversify, request.view.slots
    levels: list[_Level] = []
    if (rescore and rescore.slot not in inputs) or (diversify and diversify.slot not in inputs):
        return None
    if rescore:
        levels.append(
            _Level(without_examples(inputs[rescore.slot]), slots[rescore.slot].vector or None, rescore.candidates)
        )
    if request.pipeline.boost:
        reads = rescore.candidates if rescore else sum(branch.candidates for branch in request.pipeline.retrieve)
        formula = request.pipeline.boost.formula(request.view.layout, request.now, unboosted_direction(request))
        levels.append(_Level(formula, None, reads))
    if diversify:
        mmr = models.Mmr(diversity=1.0 - diversify.relevance, candidates_limit=diversify.candidates)
        query = models.NearestQuery.model_construct(nearest=without_examples(inputs[diversify.slot]), mmr=mmr)
        levels.append(_Level(query, slots[diversify.slot].vector or None, diversify.candidates))
    return levels


def unboosted_direction(request: SearchRequest) -> int:
    """-1 if the scores that Qdrant gives before a boost are distances, else 1."""
    pipeline, slots = request.pipeline, request.view.slots
    if pipeline.diversify or pipeline.rescore:
        return direction(slots[(pipeline.diversify or pipeline.rescore).slot])  # type: ignore[union-attr]
    return 1 if pipeline.fuse else direction(slots[pipeline.retrieve[0].slot])


def _fused(request: SearchRequest, leaves: dict[str, dict[str, Any]]) -> tuple[list[models.Prefetch], _Level]:
    """The nodes to fuse and the query that does it."""
    fusion, nodes = request.pipeline.fuse, [*map(_prefetch, leaves.values())]
    if isinstance(fusion, Rrf):
        weights = [float(fusion.weights.get(slot, 1.0)) for slot in leaves]
        # Ranks tie often, and Qdrant orders ties at random, even where a later stage reads only the best. So each slot
        # counts slightly less than the one before; the relative change of a score is at most 1e-5 for each slot.
        tie_breaks = [1.0 - TIE_BREAK * place for place in range(len(nodes))]
        if set(weights) == {1.0}:
            return nodes, _Level(models.RrfQuery(rrf=models.Rrf(k=fusion.k + 1, weights=tie_breaks)), None, 0)
        # Qdrant's own weights w give 1 / (k + rank / w): a weight would move k too. An RRF of one branch gives the
        # plain 1 / (k + rank), which a formula can weigh.
        plain = models.RrfQuery(rrf=models.Rrf(k=fusion.k + 1))
        alone = [_prefetch({"prefetch": [node], "query": plain, "limit": node.limit}) for node in nodes]
        scaled = [w * t for w, t in zip(weights, tie_breaks, strict=True)]
        return alone, _Level(_weighted_sum(scaled, [0.0] * len(scaled)), None, 0)
    signs = [direction(request.view.slots[slot]) for slot in leaves]
    if isinstance(fusion, Dbsf):
        if -1 in signs:  # Qdrant adds distances as if higher were better
            return _z_scores(nodes, [sign / 6 for sign in signs], [-3 * sign for sign in signs], 0.5 * len(signs))
        return nodes, _Level(models.FusionQuery(fusion=models.Fusion.DBSF), None, 0)
    assert isinstance(fusion, Linear), fusion
    weights = [sign * fusion.weights.get(slot, 1.0) for slot, sign in zip(leaves, signs, strict=True)]
    return _z_scores(nodes, weights, [sign * (fusion.missing or 0.0) for sign in signs])


def _z_scores(
    nodes: Sequence[models.Prefetch], weights: Sequence[float], missing: Sequence[float], constant: float = 0.0
) -> tuple[list[models.Prefetch], _Level]:
    """`constant` and the weighted z-scores of each node; `missing` is that of a document that the node did not find.

    A DBSF of one node gives z / 6 + 1/2, which a formula turns back: so Qdrant itself normalises each slot's scores.
    """
    dbsf = models.FusionQuery(fusion=models.Fusion.DBSF)
    alone = [_prefetch({"prefetch": [node], "query": dbsf, "limit": node.limit}) for node in nodes]
    halves = [value / 6 + 0.5 for value in missing]
    return alone, _Level(_weighted_sum([6 * w for w in weights], halves, constant - 3.0 * sum(weights)), None, 0)


@cache
def _by_originals() -> models.SearchParams:
    """Score by the original vectors. Made when it is first used: pydantic builds the model then."""
    return models.SearchParams(quantization=models.QuantizationSearchParams(ignore=True))


def _weighted_sum(weights: Sequence[float], missing: Sequence[float], constant: float = 0.0) -> models.FormulaQuery:
    """The sum of the nodes' weighted scores and `constant`; `missing` are the scores where a node found nothing."""
    scores = [f"$score[{branch}]" for branch in range(len(weights))]
    terms: list[Any] = [models.MultExpression(mult=[w, score]) for w, score in zip(weights, scores, strict=True)]
    formula = models.SumExpression(sum=[*terms, constant] if constant else terms)
    return models.FormulaQuery(formula=formula, defaults=dict(zip(scores, missing, strict=True)))


def _nest(
    nodes: list[models.Prefetch], levels: Sequence[_Level], request: SearchRequest, limit: int, offset: int
) -> models.QueryRequest:
    """One request, in which each level reads what the one before passes on."""
    for level, following in pairwise(levels):
        fields = {"prefetch": nodes, "query": level.query, "using": level.using, "limit": following.reads}
        nodes = [_prefetch(fields)]
    last = levels[-1]
    fields = {"prefetch": nodes, "query": last.query, "using": last.using, "limit": limit, "offset": offset}
    return _request({**fields, **request.shard_key, "with_payload": request.selector})


def with_examples(request: SearchRequest, inputs: Sequence[Inputs]) -> list[Inputs]:
    """The inputs of each query of a request with `like` or `unlike`, with examples for the slots that can use them.

    A slot scores s(query) + w * (mean s(liked) - mean s(unliked)), w = 1/2. If one kind of examples is missing, the
    query takes its place. Qdrant computes this as its naive feedback strategy, which adds the differences of all pairs.

    Raises:
        SearchError: the pipeline retrieves from no such slot, or an example is not a document of the tenant.
        StoreUnsupported: the server is too old.
    """
    slots = slots_for_examples(request)
    view = request.view
    lacks, do = "has no relevance feedback, which like and unlike need", "update the server, or search without them"
    require_version(view.client, FEEDBACK, lacks, where=f"collection {view.name!r}", do=do)
    vectors = _vectors(request, slots)
    return [
        {
            name: QueryWithExamples(query, _feedback(query, request, vectors[name])) if name in vectors else query
            for name, query in of_query.items()
        }
        for of_query in inputs
    ]


def slots_for_examples(request: SearchRequest) -> list[Slot]:
    """The dense slots that the pipeline retrieves from and whose scores are similarities.

    Raises:
        SearchError: there is none.
    """
    view = request.view
    slots = [view.slots[branch.slot] for branch in request.pipeline.retrieve]
    suitable = [slot for slot in slots if slot.kind == "dense" and slot.similarity != "euclidean"]
    if not suitable:
        kinds = [
            "a vector for each passage" if slot.passage_vectors else str(slot.similarity or slot.kind) for slot in slots
        ]
        raise SearchError(
            "like and unlike need a dense slot",
            where=repr(request.pipeline),
            got=", ".join(f"{own.name}: {kind}" for own, kind in zip(slots, kinds, strict=True)),
            expected="retrieval from a slot with one vector per document, of cosine or dot similarity",
        )
    return suitable


def _feedback(query: list[float], request: SearchRequest, vectors: Vectors) -> models.RelevanceFeedbackQuery:
    liked = [vectors[example] for example in request.like if example in vectors] or [query]
    unliked = [vectors[example] for example in request.unlike if example in vectors] or [query]
    make = models.FeedbackItem.model_construct  # unchecked, since checking each number costs more than the search
    graded = [*((example, 1.0) for example in liked), *((example, 0.0) for example in unliked)]
    items = [make(example=example, score=score) for example, score in graded]
    naive = models.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=WEIGHT / (len(liked) * len(unliked)))
    feedback = models.RelevanceFeedbackInput.model_construct(
        target=query,
        feedback=items,
        strategy=models.NaiveFeedbackStrategy(naive=naive),
    )
    return models.RelevanceFeedbackQuery.model_construct(relevance_feedback=feedback)


def _vectors(request: SearchRequest, slots: Sequence[Slot]) -> dict[str, Vectors]:
    """For each slot the vectors of the examples: those stored, and those of texts, encoded as documents."""
    examples = [*request.like, *request.unlike]
    ids = list(dict.fromkeys(example for example in examples if isinstance(example, str)))
    stored = _stored(request, ids, slots) if ids else {}
    vectors: dict[str, Vectors] = {}
    texts = [example for example in examples if isinstance(example, Query)]
    read = with_media_read(request.view, texts) if any(slot.reads_media for slot in slots) else texts
    for slot in slots:
        if slot.reads_media:
            asked, made = texts, vectors_of_queries(slot, read, remember=0)
        else:
            asked = [query for query in texts if query.text.strip()]
            made = slot.encode("document", [query.text for query in asked]) if asked else []
        found: Vectors = {q: vector.tolist() for q, vector in zip(asked, made, strict=True) if vector is not None}
        for identifier in ids:
            vector = stored[identifier]
            vector = vector.get(slot.vector) if isinstance(vector, Mapping) else vector
            if vector is not None:
                found[identifier] = vector
        vectors[slot.name] = found
    return vectors


def _stored(request: SearchRequest, ids: Sequence[str], slots: Sequence[Slot]) -> Mapping[str, Any]:
    """The stored vectors of these documents of the tenant, by id.

    Raises:
        SearchError: a document does not exist, or belongs to another tenant; both give the same error.
    """
    view = request.view
    matching = narrowed(request.scope, models.Filter(must=[with_ids(view, ids, request.tenant)]))
    names: Any = [slot.vector for slot in slots if slot.vector] or True
    fields = models.PayloadSelectorInclude(include=view.layout.id_fields())
    options = {"limit": 2 * len(ids), "with_payload": fields, "with_vectors": names, **request.shard_key_selector}
    records, _ = read_store(view, lambda: view.client.scroll(view.name, matching, **options))
    vectors = {view.layout.read(record.id, record.payload).id: record.vector for record in records}
    for identifier in ids:
        if identifier not in vectors:
            where = f"collection {view.name!r}"
            raise DocumentNotFound("there is no such document", where=where, got=repr(identifier), ids=[identifier])
    return vectors
