"""The parts of a `Boost`: numbers from 0 to 1 that Qdrant reads from the documents' metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeAlias

from pydantic import ValidationError
from qdrant_client import models

from diptych.config.boost import BOOSTS, LARGEST, BoostConfig, Curve
from diptych.errors import SearchError
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych.search.qdrant.filters import equals

Bounds: TypeAlias = models.Range | models.DatetimeRange | models.GeoBoundingBox
Expression: TypeAlias = Any  # one of qdrant-client's expressions, a condition, a variable's name or a number
_DECAYS: dict[Curve, tuple[Any, str]] = {
    "exp": (models.ExpDecayExpression, "exp_decay"),
    "gauss": (models.GaussDecayExpression, "gauss_decay"),
    "linear": (models.LinDecayExpression, "lin_decay"),
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Part:
    """The arguments that all parts share.

    Args:
        weight: what the part adds for the value 1; negative weights lower the score.
        relative: whether the weight is a share of the score, or is added to it unscaled.
    """

    weight: float = 0.5
    relative: bool = True
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        section = boost_section({"kind": self.kind, **given}, where=type(self).__name__)
        for name in given:
            object.__setattr__(self, name, getattr(section, name))

    def __repr__(self) -> str:
        """The call that makes this part, without default values."""
        given = [
            (each.name, getattr(self, each.name)) for each in fields(self) if getattr(self, each.name) != each.default
        ]
        ordered = sorted(given, key=lambda pair: pair[0] in ("weight", "relative"))
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in ordered)})"

    @property
    def label(self) -> str:
        """The part's name in explanations."""
        return f"{self.kind} {self.field}"  # type: ignore[attr-defined]

    def value(self, key: str, now: datetime) -> Expression:
        """Qdrant's expression of the part's value, from 0 to 1, for the payload key `key`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, repr=False)
class FieldBoost(_Part):
    """1 for documents whose `field` has the value `equals`, or one of several; lists match by any of their values."""

    field: str
    equals: str | int | float | bool | Sequence[str | int | float | bool]

    kind = "field"

    def value(self, key: str, now: datetime) -> Expression:
        """The part's value, 0 or 1."""
        values = self.equals if isinstance(self.equals, tuple) else (self.equals,)
        conditions = [condition for value in values for condition in equals(key, value)]
        return conditions[0] if len(conditions) == 1 else models.Filter(should=conditions)


@dataclass(frozen=True, slots=True, repr=False)
class RecencyBoost(_Part):
    """1 for documents of the time `target` and later ones, `midpoint` for those that are `scale` older.

    Args:
        field: metadata key of a time, as text that Qdrant reads as a datetime.
        scale: seconds, a timedelta, or text such as `30d`.
        midpoint: from 0 to 1, both excluded.
        curve: `exp`, `gauss` or `linear`; linear falls to 0 and stays there.
        target: the time of the search unless given; without a zone it is UTC.
    """

    field: str
    scale: float | str | timedelta
    midpoint: float = 0.5
    curve: Curve = "exp"
    target: datetime | None = None

    kind = "recency"

    @property
    def seconds(self) -> float:
        """The scale in seconds."""
        assert isinstance(self.scale, float), "set in __post_init__"
        return self.scale

    def value(self, key: str, now: datetime) -> Expression:
        """The part's value. Times after the target, such as those of scheduled documents, count as the target."""
        target = self.target or now
        zoned = target if target.tzinfo else target.replace(tzinfo=UTC)
        at = models.DatetimeExpression(datetime=zoned.isoformat())
        time = models.DatetimeKeyExpression(datetime_key=key)
        later, earlier = models.DatetimeRange(gt=zoned), models.DatetimeRange(lte=zoned)
        decayed = _decay(self.curve, time, at, self.seconds, self.midpoint)
        return models.SumExpression(sum=[_guarded(key, later), _guarded(key, earlier, decayed)])


@dataclass(frozen=True, slots=True, repr=False)
class NumberBoost(_Part):
    """1 for documents whose number is `target`, `midpoint` for those at a distance of `scale`, by a `curve`."""

    field: str
    target: float
    scale: float
    midpoint: float = 0.5
    curve: Curve = "exp"

    kind = "number"

    def value(self, key: str, now: datetime) -> Expression:
        """The part's value."""
        readable = models.Range(gte=-LARGEST, lte=LARGEST)
        return _guarded(key, readable, _decay(self.curve, key, self.target, self.scale, self.midpoint))


@dataclass(frozen=True, slots=True, repr=False)
class RangeBoost(_Part):
    """0 for documents whose number is `low` or beyond, 1 for `high` or beyond, linear between them."""

    field: str
    low: float
    high: float

    kind = "range"

    def value(self, key: str, now: datetime) -> Expression:
        """The part's value."""
        width, falls = self.high - self.low, self.high < self.low
        scaled = models.SumExpression(sum=[models.MultExpression(mult=[1 / width, key]), -self.low / width])
        beyond = models.Range(lte=self.high) if falls else models.Range(gte=self.high)
        within = models.Range(gt=min(self.low, self.high), lt=max(self.low, self.high))
        return models.SumExpression(sum=[_guarded(key, beyond), _guarded(key, within, scaled)])


@dataclass(frozen=True, slots=True, repr=False)
class GeoBoost(_Part):
    """1 for documents at a point on earth, `midpoint` for those at a distance of `scale` metres, by a `curve`."""

    field: str
    lat: float
    lon: float
    scale: float
    midpoint: float = 0.5
    curve: Curve = "exp"

    kind = "geo"

    def value(self, key: str, now: datetime) -> Expression:
        """The part's value."""
        origin = models.GeoPoint(lat=self.lat, lon=self.lon)
        distance = models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=origin, to=key))
        corners = models.GeoPoint(lat=90, lon=-180), models.GeoPoint(lat=-90, lon=180)
        earth = models.GeoBoundingBox(top_left=corners[0], bottom_right=corners[1])
        return _guarded(key, earth, _decay(self.curve, distance, 0.0, self.scale, self.midpoint))


BoostPart: TypeAlias = FieldBoost | RecencyBoost | NumberBoost | RangeBoost | GeoBoost
KINDS: dict[str, type[BoostPart]] = {
    part.kind: part for part in (FieldBoost, RecencyBoost, NumberBoost, RangeBoost, GeoBoost)
}


def boost_section(raw: Mapping[str, Any], *, where: str) -> BoostConfig:
    """The section of a config's `search.boost` that these values make.

    Raises:
        SearchError: they make none.
    """
    try:
        (section,) = BOOSTS.validate_python([dict(raw)])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([where, *error_path(first).split(".")[2:]])  # without the list's index and the kind
        got, expected = actual_value(first), expectation(first, mapping="an object")
        raise SearchError("not a boost", where=place, got=got, expected=expected) from error
    return section


def _decay(curve: Curve, x: Expression, target: Expression, scale: float, midpoint: float) -> Expression:
    make, name = _DECAYS[curve]
    return make(**{name: models.DecayParamsExpression(x=x, target=target, scale=scale, midpoint=midpoint)})


def _guarded(key: str, held: Bounds, *value: Expression) -> Expression:
    """`value`, or 1 if none is given, for documents with a single value within `held`, else 0.

    Qdrant ends a product at its first 0. Otherwise one document with a text instead of a number would fail every search
    that reads it. Bounds are conditions as well, because servers up to 1.19 have no minimum and maximum.
    """
    name = "geo_bounding_box" if isinstance(held, models.GeoBoundingBox) else "range"
    fits = models.FieldCondition.model_validate({"key": key, name: held})
    single = models.FieldCondition(key=key, values_count=models.ValuesCount(lte=1))
    return models.MultExpression(mult=[fits, single, *value])
