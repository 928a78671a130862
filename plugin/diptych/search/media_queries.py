"""Queries with media: which slots take them, and one vector for a text and media together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from diptych.errors import SearchError
from diptych.handle.snapshot import View
from diptych.media import Media
from diptych.search.options import Options, media_of
from diptych.search.pipeline import Pipeline
from diptych.slots.encode import Input
from diptych.slots.slot import Slot
from diptych.types import Query, SparseVector

QueryInput: TypeAlias = str | tuple[str, Mapping[str, Media]]  # a query's text, or its text and its media by modality


def media_read(view: View, queries: Sequence[str | Query]) -> Sequence[Mapping[str, Media]]:
    """Read the media of each query; an empty sequence if no query has any.

    Args:
        view: whose store of media reads them.
        queries: as `texts_of` has checked them.

    Raises:
        MediaError: one cannot be read.
    """
    given = [media_of(query) for query in queries]
    if not any(given):
        return ()
    store = view.media
    assert store is not None, "a handle gives its views a store of media"
    return [{modality: store.take(modality, raw) for modality, raw in media.items()} for media in given]


def with_media(texts: Sequence[str], media: Sequence[Mapping[str, Media]]) -> list[QueryInput]:
    """Each text, in a pair with its media if it has any; `media` as `media_read` returns them."""
    return [(text, parts) if parts else text for text, parts in zip(texts, media or [{}] * len(texts), strict=True)]


def without_rerankers(pipeline: Pipeline, options: Options, texts: Sequence[str]) -> Pipeline:
    """The config's pipeline without its rerankers, for queries that have no text for them.

    Raises:
        SearchError: the rerankers were asked for, or some of the queries have a text.
    """
    if options.pipeline is not None or any(text.strip() for text in texts):
        do = "give it a text, ask it alone, or name a pipeline without rerankers"
        raise SearchError("a reranker reads texts, and a query has none", where=repr(pipeline), do=do)
    return replace(pipeline, rerank=())


def takes(slot: Slot, query: Query) -> bool:
    """Whether the slot's encoder of queries takes the query's text, or one of its media."""
    is_text = bool(query.text.strip()) or not query.media
    return (is_text and slot.takes_texts) or any(kind in query.media for kind in slot.query_inputs)


def answerable(names: Sequence[str], slots: Mapping[str, Slot], queries: Sequence[Query]) -> list[int]:
    """The places of the queries whose text or media one of the named slots takes."""
    searched = [slots[name] for name in names if name in slots]
    return [place for place, query in enumerate(queries) if any(takes(slot, query) for slot in searched)]


def parts_of(slot: Slot, query: QueryInput) -> list[Input]:
    """The parts of a query that the slot's encoder takes: its text, its media, both or none."""
    text, media = (query, {}) if isinstance(query, str) else query
    kinds = [kind for kind in slot.query_inputs if kind in media]
    return [*([text] if text.strip() and slot.takes_texts else []), *(media[kind] for kind in kinds)]


def require_encodable(
    pipeline: Pipeline, slots: Mapping[str, Slot], queries: Sequence[QueryInput], inputs: Sequence[Mapping[str, Any]]
) -> None:
    """Raise SearchError if no slot of the pipeline takes what a query gives; `inputs` are the encoded queries."""
    for query, encoded in zip(queries, inputs, strict=True):
        if not encoded and not any(parts_of(slots[name], query) for name in pipeline.slots):
            raise SearchError(
                "no slot of the pipeline takes this query",
                where=repr(pipeline),
                got="a text" if isinstance(query, str) else " and ".join(filter(None, (query[0][:60], *query[1]))),
                expected="; ".join(f"{name}: {', '.join(slots[name].query_inputs)}" for name in pipeline.slots),
            )


def vectors_of_queries(slot: Slot, queries: Sequence[QueryInput], remember: int) -> list[Any]:
    """For each query its vector, or None if the slot takes no part of it.

    The vector of a text and an image is their mean: of unit vectors if the slot compares by cosine, term by term if
    it is sparse. A multi-vector holds the token vectors of both. See docs/populate.md.

    Args:
        slot: whose encoder makes the vectors.
        queries: texts, or texts and media.
        remember: number of vectors that the slot caches for repeated queries.
    """
    parts = [parts_of(slot, query) for query in queries]
    if slot.kind == "text_index":
        return [slot.encoder.query(part[0]) if part else None for part in parts]
    inputs = [part for of_query in parts for part in of_query]
    vectors = iter(slot.encode_queries(inputs, remember=remember) if inputs else ())
    return [_together([next(vectors) for _ in part], slot) for part in parts]


def _together(vectors: Sequence[Any], slot: Slot) -> Any:
    if len(vectors) < 2:
        return vectors[0] if vectors else None
    if isinstance(vectors[0], SparseVector):
        weights: dict[int, float] = {}
        for vector in vectors:
            for index, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
                weights[index] = weights.get(index, 0.0) + value / len(vectors)
        return SparseVector.from_mapping(weights)
    if vectors[0].ndim == 2:
        return np.concatenate(vectors)
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    scaled = slot.similarity == "cosine" and all(lengths)
    return np.mean([v / n if scaled else v for v, n in zip(vectors, lengths, strict=True)], axis=0).astype(np.float32)
