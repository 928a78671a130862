"""`Boost`: raises or lowers scores by values of the documents' metadata, inside Qdrant.

Each part has a value from 0 to 1 for each document, 0 if the document lacks the field. It adds its weight times that
value: as a share of the score, or unscaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic import ValidationError
from qdrant_client import models

from diptych.config.stages import (
    BOOSTS,
    INDEXES,
    LARGEST,
    PARTS,
    BoostPart,
    Curve,
    FieldBoost,
    GeoBoost,
    NumberBoost,
    RangeBoost,
    RecencyBoost,
)
from diptych.errors import SearchError, brief
from diptych.handle.snapshot import View
from diptych.metadata.models import Layout
from diptych.metadata.payloads import field_of, quoted
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych.search.qdrant.filters import equals
from diptych.search.qdrant.store_calls import read_store

Bounds: TypeAlias = models.Range | models.DatetimeRange | models.GeoBoundingBox
Expression: TypeAlias = Any  # one of qdrant-client's expressions, a condition, a variable's name or a number
_DECAYS: dict[Curve, tuple[Any, str]] = {
    "exp": (models.ExpDecayExpression, "exp_decay"),
    "gauss": (models.GaussDecayExpression, "gauss_decay"),
    "linear": (models.LinDecayExpression, "lin_decay"),
}
MOST_PARTS = 32
_SCORE = "$score"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Boost:
    """Adds to each score s the sum of weight * value over its parts, times |s| for parts with a relative weight.

    It applies to the scores of retrieval, fusion or `Rescore`, within their request to Qdrant.

    Args:
        parts: one or more of `FieldBoost`, `RecencyBoost`, `NumberBoost`, `RangeBoost`, `GeoBoost`.
    """

    parts: tuple[BoostPart, ...]

    label = "boost"

    def __init__(self, *parts: BoostPart) -> None:
        if not 0 < len(parts) <= MOST_PARTS:
            raise SearchError("unusable number of boosts", got=len(parts), expected=f"1 to {MOST_PARTS}")
        for part in parts:
            if type(part) not in PARTS:
                expected = ", ".join(part_kind.__name__ for part_kind in PARTS)
                raise SearchError("not a part of a boost", where="Boost", got=brief(part), expected=expected)
        object.__setattr__(self, "parts", parts)

    def __repr__(self) -> str:
        return f"Boost({', '.join(map(repr, self.parts))})"

    @classmethod
    def of(cls, parts: Boost | Sequence[BoostPart | Mapping[str, Any]]) -> Boost | None:
        """The boost that a caller gives; None for no parts.

        Args:
            parts: values, or mappings as in a config's `search.boost`.

        Raises:
            SearchError: something else, or a mapping that describes no part.
        """
        if isinstance(parts, Boost):
            return parts
        if not isinstance(parts, Sequence) or isinstance(parts, str):
            raise SearchError("not a boost", got=brief(parts), expected="a list of boosts, or Boost(...)")
        read = [_part(part) if isinstance(part, Mapping) else part for part in parts]
        return cls(*read) if read else None

    def formula(self, layout: Layout, now: datetime, sign: int) -> models.FormulaQuery:
        """Qdrant's query for the boosted scores of the points of one prefetch.

        Args:
            layout: of the collection.
            now: time of the search.
            sign: -1 where the prefetch's scores are distances.
        """
        score: Expression = _SCORE if sign > 0 else models.NegExpression(neg=_SCORE)
        values = [(part, self.weighted(part, layout, now)) for part in self.parts]
        shares = [value for part, value in values if part.relative]
        terms = [value for part, value in values if not part.relative]
        if shares:
            shared = [models.AbsExpression(abs=_SCORE), models.SumExpression(sum=shares)]
            terms.append(models.MultExpression(mult=shared))
        return models.FormulaQuery(formula=models.SumExpression(sum=[score, *terms]))

    def weighted(self, part: BoostPart, layout: Layout, now: datetime) -> Expression:
        """A part's weight times its value."""
        return models.MultExpression(mult=[float(part.weight), _value(part, key_of(part, layout), now)])

    def added(self, values: Sequence[float], score: float) -> list[float]:
        """What each part adds to `score`; `values` are those of `weighted`, one a part."""
        return [value * abs(score) if part.relative else value for part, value in zip(self.parts, values, strict=True)]

    def labels(self) -> list[str]:
        """The names of the parts in explanations, numbered if several have the same name."""
        names = [part.label for part in self.parts]
        return [n if names[:p].count(n) == 0 else f"{n}#{names[:p].count(n) + 1}" for p, n in enumerate(names)]


def key_of(part: BoostPart, layout: Layout) -> str:
    """The path of the part's field in payloads."""
    return quoted(field_of(layout, part.field))


def require_fitting_indexes(view: View, boost: Boost) -> None:
    """Raise SearchError if a field has a payload index that its boost cannot read."""
    types: dict[str, str] | None = view.memo.get("payload_schema")
    if types is None:
        schema = read_store(view, lambda: view.client.get_collection(view.name)).payload_schema
        types = view.memo["payload_schema"] = {key: str(index.data_type.value) for key, index in schema.items()}
    for part in boost.parts:
        index = types.get(key_of(part, view.layout))
        if index is not None and index not in INDEXES[part.kind]:
            raise SearchError(
                f"a {part.kind} boost cannot read this field",
                where=f"collection {view.name!r}, field {part.field!r}",
                got=f"a payload index of type {index}",
                expected=" or ".join(INDEXES[part.kind]),
            )


def _part(raw: Mapping[str, Any]) -> BoostPart:
    """The part that a mapping describes, as in a config's `search.boost`."""
    try:
        return BOOSTS.validate_python([dict(raw)])[0]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(["boost", *error_path(first).split(".")[2:]])  # without the list's index and the kind
        got, expected = actual_value(first), expectation(first, mapping="an object")
        raise SearchError("not a boost", where=place, got=got, expected=expected) from error


def _value(part: BoostPart, key: str, now: datetime) -> Expression:
    """Qdrant's expression of the part's value, from 0 to 1, for the payload key `key`."""
    match part:
        case FieldBoost():
            values = part.equals if isinstance(part.equals, tuple) else (part.equals,)
            conditions = [condition for value in values for condition in equals(key, value)]
            return conditions[0] if len(conditions) == 1 else models.Filter(should=conditions)
        case RecencyBoost():
            return _recency(part, key, now)
        case NumberBoost():
            readable = models.Range(gte=-LARGEST, lte=LARGEST)
            return _guarded(key, readable, _decay(part, key, part.target, part.scale))
        case RangeBoost():
            width, low, high = part.high - part.low, *sorted((part.low, part.high))
            scaled = models.SumExpression(sum=[models.MultExpression(mult=[1 / width, key]), -part.low / width])
            beyond = models.Range(lte=part.high) if width < 0 else models.Range(gte=part.high)
            within = models.Range(gt=low, lt=high)
            return models.SumExpression(sum=[_guarded(key, beyond), _guarded(key, within, scaled)])
        case GeoBoost():
            origin = models.GeoPoint(lat=part.lat, lon=part.lon)
            distance = models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=origin, to=key))
            corners = models.GeoPoint(lat=90, lon=-180), models.GeoPoint(lat=-90, lon=180)
            earth = models.GeoBoundingBox(top_left=corners[0], bottom_right=corners[1])
            return _guarded(key, earth, _decay(part, distance, 0.0, part.scale))


def _recency(part: RecencyBoost, key: str, now: datetime) -> Expression:
    """Times after the target, such as those of scheduled documents, count as the target."""
    target = part.target or now
    zoned = target if target.tzinfo else target.replace(tzinfo=UTC)
    at = models.DatetimeExpression(datetime=zoned.isoformat())
    time = models.DatetimeKeyExpression(datetime_key=key)
    later, earlier = models.DatetimeRange(gt=zoned), models.DatetimeRange(lte=zoned)
    decayed = _decay(part, time, at, part.seconds)
    return models.SumExpression(sum=[_guarded(key, later), _guarded(key, earlier, decayed)])


def _decay(part: RecencyBoost | NumberBoost | GeoBoost, x: Expression, target: Expression, scale: float) -> Expression:
    make, name = _DECAYS[part.curve]
    return make(**{name: models.DecayParamsExpression(x=x, target=target, scale=scale, midpoint=part.midpoint)})


def _guarded(key: str, held: Bounds, *value: Expression) -> Expression:
    """`value`, or 1 if none is given, for documents with a single value within `held`, else 0.

    Qdrant ends a product at its first 0. Otherwise one document with a text instead of a number would fail every search
    that reads it. Bounds are conditions as well, because servers up to 1.19 have no minimum and maximum.
    """
    name = "geo_bounding_box" if isinstance(held, models.GeoBoundingBox) else "range"
    fits = models.FieldCondition.model_validate({"key": key, name: held})
    single = models.FieldCondition(key=key, values_count=models.ValuesCount(lte=1))
    return models.MultExpression(mult=[fits, single, *value])
