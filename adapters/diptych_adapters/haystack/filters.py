"""Haystack's filters as Qdrant's.

A filter has the meaning of `haystack.utils.filters.document_matches_filter`: NOT denies that all its conditions hold, a
missing field is None, `!=` and `not in` match it, and numbers and dates are compared by value. Two rules are Qdrant's:
a condition on a list matches if any of its values does, an empty list counting as missing; and a time without a zone
is UTC.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from qdrant_client import models

from diptych_adapters.frameworks.sources import Opened
from diptych_adapters.haystack.errors import UnusableFilter

Filters: TypeAlias = dict[str, Any] | models.Filter | None
Condition: TypeAlias = models.Condition
LOGICAL = ("AND", "OR", "NOT")
_EXAMPLE = '{"field": "meta.section", "operator": "==", "value": "sound"}'
_WITHOUT_PAYLOAD = ("blob", "embedding", "score", "sparse_embedding")
_NO_POINT = models.HasIdCondition(has_id=[])  # matches no point


def to_qdrant(filters: Filters, collection: Opened) -> models.Filter | None:
    """The filter for this collection, None without one; a Qdrant filter is returned unchanged.

    Raises:
        UnusableFilter: Haystack does not define it, or Qdrant cannot hold points to it.
    """
    if isinstance(filters, models.Filter):
        return filters
    return models.Filter(must=[_condition(filters, collection)]) if filters else None


def _condition(raw: object, collection: Opened) -> Condition:
    if not isinstance(raw, Mapping):
        raise UnusableFilter("a filter is not a mapping", got=repr(raw)[:80], expected=_EXAMPLE)
    operator = _required(raw, "operator")
    if operator in LOGICAL:
        return _logical(raw, collection)
    if operator not in COMPARISONS:
        operators = [*COMPARISONS, *LOGICAL]
        matches = difflib.get_close_matches(str(operator).lower(), {name.lower(): name for name in operators}, n=1)
        hint = f"did you mean {next(n for n in operators if n.lower() == matches[0])!r}?" if matches else ""
        raise UnusableFilter(
            f"unknown filter operator {operator!r}", where=repr(raw)[:120], expected=", ".join(operators), do=hint
        )
    field, value = _required(raw, "field"), _required(raw, "value")
    return _comparison(field, str(operator), value, collection)


def _required(raw: Mapping[str, Any], key: str) -> Any:
    if key not in raw:
        expected = f"{_EXAMPLE}, or an operator of {', '.join(LOGICAL)} with conditions"
        raise UnusableFilter(f"a filter lacks {key!r}", where=repr(dict(raw))[:120], expected=expected)
    return raw[key]


def _logical(raw: Mapping[str, Any], collection: Opened) -> Condition:
    conditions = _required(raw, "conditions")
    if not isinstance(conditions, list) or not conditions:
        raise UnusableFilter(
            f"{raw['operator']} has no conditions", got=repr(conditions)[:80], expected="a list of filters, not empty"
        )
    parts = [_condition(part, collection) for part in conditions]
    if raw["operator"] == "OR":
        return models.Filter(should=parts)
    together = models.Filter(must=parts)
    return models.Filter(must_not=[together]) if raw["operator"] == "NOT" else together


def _comparison(field: object, operator: str, value: Any, collection: Opened) -> Condition:
    if not isinstance(field, str) or not field or field in _WITHOUT_PAYLOAD:
        raise UnusableFilter("filters cannot read this field", got=repr(field), expected="content, id or meta.KEY")
    if field == "id":
        return _id_condition(operator, value, collection)
    key = collection.field("text" if field == "content" else field.removeprefix("meta."))
    return COMPARISONS[operator](key, value)


def _id_condition(operator: str, value: Any, collection: Opened) -> Condition:
    if operator not in ("==", "!=", "in", "not in"):
        raise UnusableFilter("ids cannot be ordered", where="field 'id'", got=operator, expected="==, !=, in, not in")
    ids = [value] if operator in ("==", "!=") else _checked_list(value)
    if not all(isinstance(identifier, str) for identifier in ids):
        raise UnusableFilter("an id is not text", where="field 'id'", got=repr(value)[:80])
    condition: Condition = collection.having(ids)
    return condition if operator in ("==", "in") else models.Filter(must_not=[condition])


def _equal(key: str, value: Any) -> Condition:
    if value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    if isinstance(value, float):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    if (moment := _moment(value)) is not None:
        same: Condition = models.FieldCondition(key=key, range=models.DatetimeRange(gte=moment, lte=moment))
    elif isinstance(value, int) and not isinstance(value, bool):
        same = models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    elif isinstance(value, str | bool):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    else:
        raise UnusableFilter(
            "Qdrant cannot compare with this value",
            where=f"field {key!r}",
            got=repr(value)[:80],
            expected="a text, number, truth value, date or None",
        )
    if isinstance(value, datetime):
        return same
    return models.Filter(should=[models.FieldCondition(key=key, match=models.MatchValue(value=value)), same])


def _any_of(key: str, value: Any) -> Condition:
    values = _checked_list(value)
    return models.Filter(should=[_equal(key, item) for item in values]) if values else _NO_POINT


def _negated(compare: Callable[[str, Any], Condition]) -> Callable[[str, Any], Condition]:
    return lambda key, value: models.Filter(must_not=[compare(key, value)])


def _ordered(bound: str) -> Callable[[str, Any], Condition]:
    def compare(key: str, value: Any) -> Condition:
        if value is None:
            return _NO_POINT
        if (moment := _moment(value)) is not None:
            return models.FieldCondition(key=key, range=models.DatetimeRange(**{bound: moment}))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return models.FieldCondition(key=key, range=models.Range(**{bound: value}))
        raise UnusableFilter(
            "only numbers and dates can be ordered",
            where=f"field {key!r}",
            got=repr(value)[:80],
            expected="a number, or a date in ISO 8601 such as 2025-02-03T04:05:06",
        )

    return compare


def _checked_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnusableFilter("`in` and `not in` need a list", got=repr(value)[:80], expected="a list of values")
    return value


def _moment(value: Any) -> datetime | None:
    """The point in time that a value names, None if it names none; times without a zone are UTC, as in Qdrant."""
    if isinstance(value, str) and len(value) >= len("2025-02-03") and value[4:8:3] == "--":
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


COMPARISONS: Mapping[str, Callable[[str, Any], Condition]] = {
    "==": _equal,
    "!=": _negated(_equal),
    ">": _ordered("gt"),
    ">=": _ordered("gte"),
    "<": _ordered("lt"),
    "<=": _ordered("lte"),
    "in": _any_of,
    "not in": _negated(_any_of),
}
