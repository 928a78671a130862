"""LlamaIndex's metadata filters as Qdrant's.

They mean what LlamaIndex's own in-memory store takes them to mean: a key that is missing or null fits `!=`, `nin` and
`is_empty` alone. A list fits where one of its values does, as everywhere in Qdrant, and a text match is Qdrant's: all
its words are there as whole words, in any order and case. Servers before 1.19.1 need a text index for that.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from diptych.errors import SearchError
from diptych_adapters.llama_index.nodes import CONTENT, KEPT, OWN, RESERVED, SOURCE
from diptych_adapters.llama_index.open_collection import Opened

_EXACT = 2**53  # integers up to here are floats without loss, so that 5 finds 5.0
_JOIN = {FilterCondition.AND: "must", FilterCondition.OR: "should", FilterCondition.NOT: "must_not"}
_BOUNDS = {FilterOperator.GT: "gt", FilterOperator.GTE: "gte", FilterOperator.LT: "lt", FilterOperator.LTE: "lte"}


def qdrant_filter(
    collection: Opened,
    filters: MetadataFilters | None,
    *,
    sources: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> models.Filter | None:
    """The filter for all of these together, None if there is nothing to filter by.

    Args:
        filters: over the metadata of nodes.
        sources: ids of documents that nodes were split from, one of which must be the node's.
        ids: of nodes.

    Raises:
        SearchError: a filter that Qdrant cannot answer.
    """
    found: list[Any] = []
    if ids:
        found.append(collection.having(ids))
    if sources:
        path = "doc_id" if is_llama_index_own(collection) else f"{collection.field(KEPT)}.{SOURCE}"
        found.append(models.FieldCondition(key=path, match=models.MatchAny(any=list(sources))))
    if filters is not None and filters.filters:
        found.append(_joined(collection, filters))
    return models.Filter(must=found) if found else None


def is_llama_index_own(collection: Opened) -> bool:
    """Whether LlamaIndex's own store filled the collection before its adoption: nodes are stored as JSON."""
    return collection.field("text") == "_node_content"


def _joined(collection: Opened, filters: MetadataFilters) -> models.Filter:
    parts: list[Any] = []
    for part in filters.filters:
        if isinstance(part, MetadataFilters):
            if part.filters:
                parts.append(_joined(collection, part))
        else:
            parts.append(_placed(collection, part))
    return models.Filter(**{_JOIN[filters.condition or FilterCondition.AND]: parts})


def _placed(collection: Opened, asked: MetadataFilter) -> models.Filter:
    """The condition for the payload path where nodes have this key: keys that diptych reserves are below `_node`."""
    if is_llama_index_own(collection):
        return _condition(asked, asked.key)
    kept = f"{collection.field(KEPT)}.{CONTENT}"
    plain = _condition(asked, collection.field(asked.key))
    if asked.key not in RESERVED:
        return plain
    own = _condition(asked, f"{collection.field(KEPT)}.{OWN}.{asked.key}")
    if asked.key != "title":
        return own
    return models.Filter(
        should=[
            models.Filter(must=[own], must_not=[_empty(kept)]),
            models.Filter(must=[plain, _empty(kept)]),
        ]
    )


def _condition(asked: MetadataFilter, path: str) -> models.Filter:
    operator, value = asked.operator, asked.value
    if operator in _BOUNDS:
        return models.Filter(must=[_bound(asked, path)])
    if operator is FilterOperator.IS_EMPTY:
        return models.Filter(should=[_empty(path), _equal(path, "")])
    build = _BUILDERS.get(operator)
    if build is None:
        raise _refused(asked, "is not known here", ", ".join(known.value for known in FilterOperator))
    return build(asked, path, value)


def _one(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    return models.Filter(must=[_equal(path, _single(asked, value))])


def _other(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    return models.Filter(must_not=[_equal(path, _single(asked, value))])


def _any(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    conditions: list[Any] = [_equal(path, one) for one in _several(asked, value)]
    return models.Filter(should=conditions or [models.HasIdCondition(has_id=[])])


def _none(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    return models.Filter(must_not=[_any(asked, path, value)])


def _all(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    conditions: list[Any] = [_equal(path, one) for one in _several(asked, value)]
    return models.Filter(must=conditions, must_not=[_empty(path)])


def _words(asked: MetadataFilter, path: str, value: Any) -> models.Filter:
    if not isinstance(value, str) or not value:
        raise _refused(asked, "needs a text", "a text")
    return models.Filter(must=[models.FieldCondition(key=path, match=models.MatchText(text=value))])


_BUILDERS: Mapping[FilterOperator, Callable[[MetadataFilter, str, Any], models.Filter]] = {
    FilterOperator.EQ: _one,
    FilterOperator.CONTAINS: _one,
    FilterOperator.NE: _other,
    FilterOperator.IN: _any,
    FilterOperator.ANY: _any,
    FilterOperator.NIN: _none,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: _words,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _words,
}


def _equal(path: str, value: str | int | float) -> models.FieldCondition:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= _EXACT):
        return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _empty(path: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def _bound(asked: MetadataFilter, path: str) -> models.FieldCondition:
    value, side = asked.value, _BOUNDS[asked.operator]
    if isinstance(value, int | float):
        return models.FieldCondition(key=path, range=models.Range(**{side: value}))
    try:
        moment = datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise _refused(asked, "cannot be ordered by Qdrant", "a number, or a date as ISO 8601 writes it") from None
    return models.FieldCondition(key=path, range=models.DatetimeRange(**{side: moment}))


def _single(asked: MetadataFilter, value: Any) -> str | int | float:
    if isinstance(value, str | int | float):
        return value
    raise _refused(asked, "needs one value", "a text or a number; is_empty finds what is missing")


def _several(asked: MetadataFilter, value: Any) -> list[str | int | float]:
    if isinstance(value, list):
        return value
    raise _refused(asked, "needs a list", "a list of texts or numbers")


def _refused(asked: MetadataFilter, what: str, expected: str) -> SearchError:
    operator = getattr(asked.operator, "value", asked.operator)
    where, got = f"metadata filter on {asked.key!r}", f"{operator} {asked.value!r}"
    return SearchError(f"the filter operator {operator} {what}", where=where, got=got, expected=expected)
