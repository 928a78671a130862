"""LlamaIndex's metadata filters as Qdrant's.

They have the meaning of LlamaIndex's own in-memory store: a missing or null key matches only `!=`, `nin` and
`is_empty`. As everywhere in Qdrant, a list matches if one of its values does. A text match is Qdrant's: all words occur
as whole words, in any order and case. Servers before 1.19.1 need a text index for it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from qdrant_client import models

from diptych.errors import SearchError
from diptych_adapters.frameworks.sources import Opened
from diptych_adapters.llama_index.nodes import CONTENT, NODE_KEY, OWN_METADATA, RESERVED, SOURCE

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
    conditions: list[Any] = []
    if ids:
        conditions.append(collection.having(ids))
    if sources:
        path = "doc_id" if is_llama_index_own(collection) else f"{collection.field(NODE_KEY)}.{SOURCE}"
        conditions.append(models.FieldCondition(key=path, match=models.MatchAny(any=list(sources))))
    if filters is not None and filters.filters:
        conditions.append(_joined(collection, filters))
    return models.Filter(must=conditions) if conditions else None


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
            parts.append(_filter_condition(collection, part))
    return models.Filter(**{_JOIN[filters.condition or FilterCondition.AND]: parts})


def _filter_condition(collection: Opened, filter: MetadataFilter) -> models.Filter:
    """The condition on the payload path of this metadata key; keys that diptych reserves are stored below `_node`."""
    if is_llama_index_own(collection):
        return _condition(filter, filter.key)
    content = f"{collection.field(NODE_KEY)}.{CONTENT}"
    condition = _condition(filter, collection.field(filter.key))
    if filter.key not in RESERVED:
        return condition
    own_condition = _condition(filter, f"{collection.field(NODE_KEY)}.{OWN_METADATA}.{filter.key}")
    if filter.key != "title":
        return own_condition
    return models.Filter(
        should=[
            models.Filter(must=[own_condition], must_not=[_empty(content)]),
            models.Filter(must=[condition, _empty(content)]),
        ]
    )


def _condition(filter: MetadataFilter, path: str) -> models.Filter:
    operator, value = filter.operator, filter.value
    if operator in _BOUNDS:
        return models.Filter(must=[_bound(filter, path)])
    if operator is FilterOperator.IS_EMPTY:
        return models.Filter(should=[_empty(path), _equal(path, "")])
    build = _BUILDERS.get(operator)
    if build is None:
        raise _unsupported(filter, "is not known here", ", ".join(supported.value for supported in FilterOperator))
    return build(filter, path, value)


def _equal_value(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    return models.Filter(must=[_equal(path, _single(filter, value))])


def _any_of(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    conditions: list[Any] = [_equal(path, item) for item in _several(filter, value)]
    return models.Filter(should=conditions or [models.HasIdCondition(has_id=[])])


def _all_of(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    conditions: list[Any] = [_equal(path, item) for item in _several(filter, value)]
    return models.Filter(must=conditions, must_not=[_empty(path)])


def _text_match(filter: MetadataFilter, path: str, value: Any) -> models.Filter:
    if not isinstance(value, str) or not value:
        raise _unsupported(filter, "needs a text", "a text")
    return models.Filter(must=[models.FieldCondition(key=path, match=models.MatchText(text=value))])


_BUILDERS: Mapping[FilterOperator, Callable[[MetadataFilter, str, Any], models.Filter]] = {
    FilterOperator.EQ: _equal_value,
    FilterOperator.CONTAINS: _equal_value,
    FilterOperator.NE: lambda filter, path, value: models.Filter(must_not=[_equal(path, _single(filter, value))]),
    FilterOperator.IN: _any_of,
    FilterOperator.ANY: _any_of,
    FilterOperator.NIN: lambda filter, path, value: models.Filter(must_not=[_any_of(filter, path, value)]),
    FilterOperator.ALL: _all_of,
    FilterOperator.TEXT_MATCH: _text_match,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match,
}


def _equal(path: str, value: str | int | float) -> models.FieldCondition:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= _EXACT):
        return models.FieldCondition(key=path, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _empty(path: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def _bound(filter: MetadataFilter, path: str) -> models.FieldCondition:
    value, side = filter.value, _BOUNDS[filter.operator]
    if isinstance(value, int | float):
        return models.FieldCondition(key=path, range=models.Range(**{side: value}))
    try:
        moment = datetime.datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise _unsupported(filter, "cannot be ordered by Qdrant", "a number, or a date as ISO 8601 writes it") from None
    return models.FieldCondition(key=path, range=models.DatetimeRange(**{side: moment}))


def _single(filter: MetadataFilter, value: Any) -> str | int | float:
    if isinstance(value, str | int | float):
        return value
    raise _unsupported(filter, "needs one value", "a text or a number; is_empty finds what is missing")


def _several(filter: MetadataFilter, value: Any) -> list[str | int | float]:
    if isinstance(value, list):
        return value
    raise _unsupported(filter, "needs a list", "a list of texts or numbers")


def _unsupported(filter: MetadataFilter, what: str, expected: str) -> SearchError:
    operator = getattr(filter.operator, "value", filter.operator)
    where, got = f"metadata filter on {filter.key!r}", f"{operator} {filter.value!r}"
    return SearchError(f"the filter operator {operator} {what}", where=where, got=got, expected=expected)
