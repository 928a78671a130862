"""`SearchOptions`: what a search takes besides its queries; and which slots take queries with media."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy as np
from qdrant_client import models

from diptych.config.section import is_score
from diptych.config.stages import BoostPart
from diptych.errors import SearchError, brief
from diptych.handle.snapshot import View
from diptych.media import Media, RawMedia
from diptych.runtime.json_faults import is_unicode
from diptych.runtime.validation_messages import nearest
from diptych.search.filters import FilterLike, Where
from diptych.search.pipeline import Boost, Pipeline, Retrieve
from diptych.slots.encode import Input
from diptych.slots.slot import Slot
from diptych.types import Query, SparseVector

QueryInput: TypeAlias = str | tuple[str, Mapping[str, Media]]  # a query's text, or its text and its media by modality

MOST_CHARACTERS = 1_000_000  # of a query; documents have the same limit by default
MOST_IDS = 1000  # in `pin`, and in `exclude`
MOST_PASSAGES = 1000  # that a search may ask for with each hit
_LIMITS = ("k", "n", "top", "top_k", "size")  # what other libraries call the limit
BoostLike: TypeAlias = Boost | Sequence[BoostPart | Mapping[str, Any]]


class ScopedOptions(TypedDict, total=False):
    """Number of hits, and the documents that are searched.

    Args:
        limit: number of hits, by default the config's.
        filter: documents to search, in every slot: Qdrant's filter, or a mapping as its REST interface takes it.
        where: short form; all conditions must hold: `{"section": "mail", "kind": ["a", "b"], "year": {"lt": 9}}`.
        params: Qdrant's search parameters instead of the pipeline's, for every slot.
        tenant: the tenant whose documents are searched, in a collection with tenants.
        boost: raises or lowers scores by metadata, instead of the pipeline's own boost: `Boost(...)`, or a list of its
            parts or of mappings as in the config; an empty list boosts nothing.
        pin: ids of documents that come first, in this order, if they exist and match tenant and filter; replaces the
            config's pins, which apply to its own pipeline only.
        exclude: ids of documents that are left out, in addition to the config's.
    """

    limit: int | None
    filter: FilterLike | None
    where: Where | None
    params: models.SearchParams | None
    tenant: str | None
    boost: BoostLike | None
    pin: Sequence[str] | None
    exclude: Sequence[str] | None


class GroupOptions(ScopedOptions, total=False):
    """The stages, and the parts of documents that are returned.

    Args:
        pipeline: stages instead of the config's; or the name of a slot alone, such as `dense`, or of a part of the
            config's pipeline as `diptych evaluate` shows it, such as `rrf`.
        score_threshold: hits whose final score is lower are dropped; by default the config's.
        with_payload: False fetches ids only; a list only these keys: `text`, `title` and metadata.
        like: examples of relevant documents, as ids or `Query(text)`; dense slots prefer documents near them.
        unlike: examples of documents that are not relevant.
        passages: the most passages of a hit, where a slot of the pipeline has them; by default the config's.
        highlight: whether hits say which sentence and which words answer; by default the config's.
    """

    passages: int | None
    highlight: bool | None
    pipeline: Pipeline | Retrieve | str | None
    score_threshold: float | None
    with_payload: bool | Sequence[str]
    like: Sequence[str | Query] | None
    unlike: Sequence[str | Query] | None


class ExplainOptions(ScopedOptions, total=False):
    """The options of `explain` beside query and ids, as in `SearchOptions`."""

    pipeline: Pipeline | Retrieve | str | None
    like: Sequence[str | Query] | None
    unlike: Sequence[str | Query] | None


class VectorOptions(ScopedOptions, total=False):
    """`SearchOptions` without `pipeline`: the stages are an argument beside the vector."""

    passages: int | None
    score_threshold: float | None
    with_payload: bool | Sequence[str]
    offset: int


class SearchOptions(GroupOptions, total=False):
    """What every search takes besides its queries.

    Args:
        offset: number of hits to leave out at the top.
    """

    offset: int


class Options(NamedTuple):
    """`SearchOptions` with their defaults, unchecked."""

    pipeline: Pipeline | Retrieve | str | None = None
    limit: int | None = None
    offset: int = 0
    filter: FilterLike | None = None
    score_threshold: float | None = None
    params: models.SearchParams | None = None
    with_payload: bool | Sequence[str] = True
    tenant: str | None = None
    where: Where | None = None
    boost: BoostLike | None = None
    pin: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    like: Sequence[str | Query] | None = None
    unlike: Sequence[str | Query] | None = None
    passages: int | None = None
    highlight: bool | None = None


def options_of(options: Mapping[str, Any], called: str = "search", **fixed: Any) -> Options:
    """The options that a caller gave, with those that the call sets itself.

    Args:
        options: the caller's.
        called: the call's name.
        fixed: what the call sets, and callers may not.

    Raises:
        TypeError: an option that the call does not take; with the one that may have been meant.
    """
    names = [name for name in Options._fields if name not in fixed] if fixed else Options._fields
    for name in options:
        if name not in names:
            do = "did you mean 'limit'?" if name in _LIMITS else nearest(name, names) or f"it takes {', '.join(names)}"
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}: {do}")
    return Options(**{**options, **fixed})


def ids_of(name: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The ids, each once.

    Raises:
        SearchError: they are not ids of documents, or too many.
    """
    listed = isinstance(ids, Sequence) and not isinstance(ids, str)
    if not listed or not all(
        isinstance(identifier, str) and identifier and is_unicode(identifier) for identifier in ids
    ):
        raise SearchError(f"{name} is not a list of ids", got=brief(ids), expected='["id", ...]')
    if len(ids) > MOST_IDS:
        raise SearchError(f"{name} has too many ids", got=f"{len(ids):,}", expected=f"at most {MOST_IDS:,}")
    return tuple(dict.fromkeys(ids))


def check_types(options: Options) -> None:
    """Raise SearchError if one of these options is of another type."""
    if options.params is not None and not isinstance(options.params, models.SearchParams):
        got, expected = type(options.params).__name__, "qdrant_client.models.SearchParams"
        raise SearchError("unknown type of params", got=got, expected=expected)
    threshold = options.score_threshold
    if threshold is not None and not is_score(threshold):
        raise SearchError("score_threshold is not a finite number", got=type(threshold).__name__, expected="a number")
    most, highlight, with_payload = options.passages, options.highlight, options.with_payload
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or not 0 <= most <= MOST_PASSAGES):
        raise SearchError("passages is not usable", got=brief(most), expected=f"an integer from 0 to {MOST_PASSAGES}")
    if highlight is not None and not isinstance(highlight, bool):
        raise SearchError("highlight is not usable", got=brief(highlight), expected="True or False")
    if isinstance(with_payload, bool):
        return
    keys = with_payload if isinstance(with_payload, Collection) and not isinstance(with_payload, str) else (None,)
    if not all(isinstance(key, str) and is_unicode(key) for key in keys):
        got = brief(with_payload)
        raise SearchError("with_payload is not usable", got=got, expected="True, False or some keys")


def texts_of(queries: Sequence[str | Query]) -> list[str]:
    """The queries' texts; empty ones only of queries with media.

    Raises:
        SearchError: no queries, or one that is empty or not text.
    """
    if isinstance(queries, str | Query) or not isinstance(queries, Sequence):
        raise SearchError("queries are not a list", got=type(queries).__name__, expected="a sequence of str or Query")
    if not queries:
        raise SearchError("there is no query", got="an empty list", expected="one or more queries")
    texts = []
    for position, query in enumerate(queries):
        text, media = (query.text, query.media) if isinstance(query, Query) else (query, {})
        if not isinstance(text, str):
            raise SearchError(
                "a query is not text", where=f"query {position}", got=type(text).__name__, expected="str or Query"
            )
        if not isinstance(media, Mapping):
            expected = "{'image': PATH, ...}"
            raise SearchError("media of a query is not a mapping", got=type(media).__name__, expected=expected)
        if not text.strip() and not media:
            raise SearchError("a query is empty", where=f"query {position}", got=repr(text[:80]))
        if not is_unicode(text):
            raise SearchError("a query is not valid Unicode", where=f"query {position}", got=ascii(text[:80]))
        if len(text) > MOST_CHARACTERS:
            got, expected = f"{len(text):,} characters", f"at most {MOST_CHARACTERS:,}"
            raise SearchError("a query is too long", where=f"query {position}", got=got, expected=expected)
        texts.append(text)
    return texts


def media_of(query: str | Query) -> Mapping[str, RawMedia]:
    """The query's media by modality, as they were given."""
    return query.media if isinstance(query, Query) else {}


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
