"""The `boost` list of the search section: raises or lowers scores by values of the documents' metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, model_validator

from diptych.config.problems import Problem
from diptych.config.section import Duration, Factor, Section
from diptych.runtime.validation_messages import nearest

Curve: TypeAlias = Literal["exp", "gauss", "linear"]
# Qdrant computes with float32: numbers beyond these limits become 0, 1 or infinite, or lose their digits.
LARGEST, _SMALLEST = 1e15, 1e-15
Number: TypeAlias = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Midpoint: TypeAlias = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]
Distance: TypeAlias = Annotated[float, Field(ge=_SMALLEST, le=LARGEST)]
MIDPOINT = "Value at a distance of `scale`; it is 1 at no distance."
ORDERED = ("datetime", "integer", "float")  # types by which Qdrant can order points


class _BoostSection(Section):
    field: str = Field(min_length=1, description="Metadata key; dots separate nested keys.")
    weight: Factor = Field(0.5, description="Score that the value 1 adds, as a share of the score; negative lowers it.")
    relative: bool = Field(True, description="Whether `weight` is a share of the score; false adds it unscaled.")


class FieldBoost(_BoostSection):
    """Raises documents whose field has one of these values."""

    kind: Literal["field"]
    equals: (
        str | int | float | bool | Annotated[tuple[str | int | float | bool, ...], Field(min_length=1, strict=False)]
    ) = Field(description="A value, or a list of values of which one must match.")


class RecencyBoost(_BoostSection):
    """Raises documents whose time is near `target`; later times count as `target`."""

    kind: Literal["recency"]
    scale: Duration = Field(description="Age at which the value is `midpoint`, such as 30d.")
    midpoint: Midpoint = Field(0.5, description=MIDPOINT)
    curve: Curve = Field("exp", description="How the value falls with the distance.")
    target: datetime | None = Field(
        None, strict=False, description="Time that has the value 1; null is the time of the search."
    )


class NumberBoost(_BoostSection):
    """Raises documents whose number is near `target`."""

    kind: Literal["number"]
    target: Number = Field(description="Number that has the value 1.")
    scale: Distance = Field(description="Difference at which the value is `midpoint`.")
    midpoint: Midpoint = Field(0.5, description=MIDPOINT)
    curve: Curve = Field("exp", description="How the value falls with the distance.")


class RangeBoost(_BoostSection):
    """Raises documents by their number, from 0 at `low` to 1 at `high`."""

    kind: Literal["range"]
    low: Number = Field(description="Number that has the value 0, as do numbers beyond it.")
    high: Number = Field(description="Number that has the value 1, as do numbers beyond it; may be less than `low`.")

    @model_validator(mode="after")
    def _is_wide(self) -> RangeBoost:
        if abs(self.high - self.low) < _SMALLEST:
            raise ValueError("`low` and `high` that differ")
        return self


class GeoBoost(_BoostSection):
    """Raises documents whose place is near a point."""

    kind: Literal["geo"]
    lat: Annotated[float, Field(ge=-90, le=90)] = Field(description="Latitude of the point.")
    lon: Annotated[float, Field(ge=-180, le=180)] = Field(description="Longitude of the point.")
    scale: Distance = Field(description="Distance in metres at which the value is `midpoint`.")
    midpoint: Midpoint = Field(0.5, description=MIDPOINT)
    curve: Curve = Field("exp", description="How the value falls with the distance.")


class Recent(Section):
    """Puts the newest documents, such as the last turns of a conversation, first in every answer."""

    field: str = Field(description="Metadata field to sort by, a number or date in `populate.indexes`.")
    count: Annotated[int, Field(ge=1, le=100)] = Field(4, description="Number of documents, newest first.")


BoostConfig: TypeAlias = Annotated[
    FieldBoost | RecencyBoost | NumberBoost | RangeBoost | GeoBoost, Field(discriminator="kind")
]
BOOSTS: TypeAdapter[list[FieldBoost | RecencyBoost | NumberBoost | RangeBoost | GeoBoost]] = TypeAdapter(
    list[BoostConfig]
)
# Types of payload indexes that fit each kind of boost.
INDEXES: dict[str, tuple[str, ...]] = {
    "field": ("keyword", "integer", "float", "bool", "uuid"),
    "recency": ("datetime",),
    "number": ("integer", "float"),
    "range": ("integer", "float"),
    "geo": ("geo",),
}


def boost_problems(boosts: Sequence[BoostConfig], indexes: Mapping[str, str]) -> Iterator[Problem]:
    """Boosts whose field has a payload index of an unsuitable type, such as recency of a keyword."""
    for place, boost in enumerate(boosts):
        index = indexes.get(boost.field)
        if index is not None and index not in INDEXES[boost.kind]:
            yield Problem(
                ("search", "boost", place, "field"),
                f"a {boost.kind} boost cannot read a field that is indexed as {index}",
                repr(boost.field),
                " or ".join(INDEXES[boost.kind]),
                "change populate.indexes, or boost by another field",
            )


def recent_problems(recent: Recent | None, indexes: Mapping[str, str]) -> Iterator[Problem]:
    """`recent` by a field whose payload index cannot order points, or that has none."""
    if recent is not None and indexes.get(recent.field) not in ORDERED:
        yield Problem(
            ("search", "recent", "field"),
            "documents cannot be ordered by this field",
            f"{recent.field!r}, {'indexed as ' + indexes[recent.field] if recent.field in indexes else 'not indexed'}",
            f"a field that populate.indexes has as {', '.join(ORDERED[:-1])} or {ORDERED[-1]}",
            nearest(recent.field, [field for field, index in indexes.items() if index in ORDERED])
            or f"populate: {{indexes: {{{recent.field}: {ORDERED[0]}}}}}",
        )
