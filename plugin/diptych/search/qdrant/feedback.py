"""Relevance feedback: liked and unliked examples move the scores of dense slots inside Qdrant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from diptych.errors import SearchError
from diptych.handle.tenancy import narrowed, with_ids
from diptych.metadata.payloads import from_payload, id_fields
from diptych.search.media_queries import QueryInput, media_read, vectors_of_queries, with_media
from diptych.search.qdrant.query import Input, Inputs, QueryWithExamples
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.slots.slot import Slot
from diptych.stores.versions import FEEDBACK, require_version
from diptych.types import Query

WEIGHT = 0.5  # the weight of the examples; that of the query is 1
Vectors = dict[str | Query, list[float]]


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
        raise SearchError(
            "like and unlike need a dense slot",
            where=repr(request.pipeline),
            got=", ".join(f"{slot.name}: {_shown(slot)}" for slot in slots),
            expected="retrieval from a slot with one vector per document, of cosine or dot similarity",
        )
    return suitable


def _shown(slot: Slot) -> str:
    return "a vector for each passage" if slot.passage_vectors else str(slot.similarity or slot.kind)


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
    media = media_read(request.view, texts) if any(slot.reads_media for slot in slots) else ()
    given = with_media([query.text for query in texts], media)
    for slot in slots:
        found = _encoded(slot, texts, given)
        found |= {
            identifier: vector for identifier in ids if (vector := _of_slot(stored[identifier], slot)) is not None
        }
        vectors[slot.name] = found
    return vectors


def _encoded(slot: Slot, examples: Sequence[Query], given: Sequence[QueryInput]) -> Vectors:
    """The vectors of examples that are no documents, without those that the slot cannot take."""
    if slot.reads_media:
        made = vectors_of_queries(slot, given, remember=0)
        return {query: vector.tolist() for query, vector in zip(examples, made, strict=True) if vector is not None}
    examples = [query for query in examples if query.text.strip()]
    texts: list[Any] = slot.encode("document", [query.text for query in examples]) if examples else []
    return {query: vector.tolist() for query, vector in zip(examples, texts, strict=True)}


def _stored(request: SearchRequest, ids: Sequence[str], slots: Sequence[Slot]) -> Mapping[str, Any]:
    """The stored vectors of these documents of the tenant, by id.

    Raises:
        SearchError: a document does not exist, or belongs to another tenant; both give the same error.
    """
    view = request.view
    matching = narrowed(request.scope, models.Filter(must=[with_ids(view, ids, request.tenant)]))
    names: Any = [slot.vector for slot in slots if slot.vector] or True
    fields = models.PayloadSelectorInclude(include=id_fields(view.layout))
    options = {"limit": 2 * len(ids), "with_payload": fields, "with_vectors": names, **request.shard_key_selector}
    records, _ = read_store(view, lambda: view.client.scroll(view.name, matching, **options))
    vectors = {from_payload(record.id, record.payload, view.layout).id: record.vector for record in records}
    for identifier in ids:
        if identifier not in vectors:
            raise SearchError("there is no such document", where=f"collection {view.name!r}", got=repr(identifier))
    return vectors


def _of_slot(vector: Any, slot: Slot) -> Input:
    """The slot's part of a point's vectors, None where it has none."""
    return vector.get(slot.vector) if isinstance(vector, Mapping) else vector
