"""`Boost`: raises or lowers scores by values of the documents' metadata, inside Qdrant.

Each part has a value from 0 to 1 for each document, 0 if the document lacks the field. It adds its weight times that
value: as a share of the score, or unscaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qdrant_client import models

from diptych.config.boost import INDEXES, BoostConfig
from diptych.errors import SearchError, brief
from diptych.handle.snapshot import View
from diptych.metadata.models import Layout
from diptych.metadata.payloads import field_of, quoted
from diptych.search.boost_parts import KINDS, BoostPart, Expression, boost_section
from diptych.search.qdrant.store_calls import read_store

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
            if type(part) not in KINDS.values():
                expected = ", ".join(part_kind.__name__ for part_kind in KINDS.values())
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
        read = [_part(boost_section(part, where="boost")) if isinstance(part, Mapping) else part for part in parts]
        return cls(*read) if read else None

    @classmethod
    def from_config(cls, parts: Sequence[BoostConfig]) -> Boost:
        """The boost of a config's `search.boost`, which has parts."""
        return cls(*map(_part, parts))

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
        return models.MultExpression(mult=[float(part.weight), part.value(key_of(part, layout), now)])

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


def _part(config: BoostConfig) -> BoostPart:
    return KINDS[config.kind](**config.model_dump(exclude={"kind"}))
