"""Filters of every kind in Edge's form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from diptych.errors import SearchError

Condition = models.Condition | models.Filter
_SLICE: Any = edge.SliceCondition  # type: ignore[attr-defined] # its stubs forgot it


def edge_filter(query_filter: models.Filter | None, exclude_ids: Iterable[models.ExtendedPointId] = ()) -> Any:
    """Edge's form of a filter that also excludes the points `exclude_ids`; None without any condition."""
    excluded = set(exclude_ids)
    if query_filter is None and not excluded:
        return None
    query_filter = query_filter or models.Filter()
    must_not = _conditions(query_filter.must_not) or []
    if excluded:
        must_not.append(edge.HasIdCondition(excluded))
    return edge.Filter(
        must=_conditions(query_filter.must),
        should=_conditions(query_filter.should),
        must_not=must_not or None,
        min_should=_min_should(query_filter.min_should),
    )


def edge_condition(condition: Condition) -> Any:
    """Edge's form of one condition.

    Raises:
        SearchError: it is not a condition of qdrant-client.
    """
    convert = _CONDITIONS.get(type(condition))
    if convert is None:
        raise SearchError(
            "a filter holds something that is not a condition",
            got=type(condition).__name__,
            expected="a condition of qdrant_client.models, such as FieldCondition",
        )
    return convert(condition)


def _conditions(conditions: list[Condition] | Condition | None) -> list[Any] | None:
    if conditions is None:
        return None
    return [edge_condition(item) for item in (conditions if isinstance(conditions, list) else [conditions])]


def _min_should(min_should: models.MinShould | None) -> Any:
    if min_should is None:
        return None
    return edge.MinShould(_conditions(min_should.conditions) or [], min_should.min_count)


def _field(condition: models.FieldCondition) -> Any:
    count = condition.values_count
    return edge.FieldCondition(
        condition.key,
        match=None if condition.match is None else _MATCHES[type(condition.match)](condition.match),
        range=_range(condition.range),
        geo_bounding_box=_box(condition.geo_bounding_box),
        geo_radius=_radius(condition.geo_radius),
        geo_polygon=_polygon(condition.geo_polygon),
        values_count=edge.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte) if count else None,
        is_empty=condition.is_empty,
        is_null=condition.is_null,
    )


def _match_value(value: Any) -> Any:
    # Edge takes Python's booleans for the integers that they are too; numpy's are nothing but booleans.
    return edge.MatchValue(np.bool_(value) if isinstance(value, bool) else value)  # type: ignore[arg-type]


def _range(interval: models.RangeInterface | None) -> Any:
    if interval is None:
        return None
    bounds = {name: getattr(interval, name) for name in ("gte", "gt", "lte", "lt")}
    if isinstance(interval, models.DatetimeRange):
        return edge.RangeDateTime(**{name: iso(value) for name, value in bounds.items()})
    return edge.RangeFloat(**bounds)


def iso(moment: date | None) -> str | None:
    """A date or datetime in the form that Edge reads."""
    return None if moment is None else moment.isoformat()


def geo_point(point: models.GeoPoint) -> Any:
    """Edge's form of a point on the globe."""
    return edge.GeoPoint(lon=point.lon, lat=point.lat)


def _box(box: models.GeoBoundingBox | None) -> Any:
    return edge.GeoBoundingBox(geo_point(box.top_left), geo_point(box.bottom_right)) if box else None


def _radius(circle: models.GeoRadius | None) -> Any:
    return edge.GeoRadius(geo_point(circle.center), circle.radius) if circle else None


def _polygon(polygon: models.GeoPolygon | None) -> Any:
    if polygon is None:
        return None
    return edge.GeoPolygon(_ring(polygon.exterior), [_ring(hole) for hole in polygon.interiors or ()])


def _ring(line: models.GeoLineString) -> list[Any]:
    return [geo_point(point) for point in line.points]


_MATCHES: dict[type[Any], Callable[[Any], Any]] = {
    models.MatchValue: lambda m: _match_value(m.value),
    models.MatchText: lambda m: edge.MatchText(m.text),
    models.MatchTextAny: lambda m: edge.MatchTextAny(m.text_any),
    models.MatchPhrase: lambda m: edge.MatchPhrase(m.phrase),
    models.MatchPrefix: lambda m: edge.MatchPrefix(m.prefix),
    models.MatchSubstring: lambda m: edge.MatchSubstring(m.substring),
    models.MatchAny: lambda m: edge.MatchAny(m.any),
    models.MatchExcept: lambda m: edge.MatchExcept(m.except_),
}
_CONDITIONS: dict[type[Any], Callable[[Any], Any]] = {
    models.FieldCondition: _field,
    models.IsEmptyCondition: lambda c: edge.IsEmptyCondition(c.is_empty.key),
    models.IsNullCondition: lambda c: edge.IsNullCondition(c.is_null.key),
    models.HasIdCondition: lambda c: edge.HasIdCondition(set(c.has_id)),
    models.HasVectorCondition: lambda c: edge.HasVectorCondition(c.has_vector),
    models.SliceCondition: lambda c: _SLICE(c.slice.total, c.slice.index),
    models.NestedCondition: lambda c: edge.NestedCondition(c.nested.key, edge_filter(c.nested.filter)),
    models.Filter: lambda c: edge_filter(c) or edge.Filter(),
}
