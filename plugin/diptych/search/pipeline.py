"""`Pipeline`: how a query becomes hits, composed of stages with `+` and `>>`; and `Boost`, its formula over metadata.

Each part of a boost has a value from 0 to 1 for each document, 0 if the document lacks the field. It adds its weight
times that value: as a share of the score, or unscaled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic import ValidationError
from qdrant_client import models

from diptych.config.models import SearchConfig
from diptych.config.models import SearchParams as ParamsConfig
from diptych.config.section import MOST_CANDIDATES, require_count
from diptych.config.stages import (
    BOOSTS,
    INDEXES,
    LARGEST,
    PARTS,
    BoostPart,
    Curve,
    Dbsf,
    Diversify,
    FieldBoost,
    Fusion,
    GeoBoost,
    Linear,
    NumberBoost,
    RangeBoost,
    RecencyBoost,
    Rerank,
    Rescore,
    Rrf,
)
from diptych.errors import SearchError, brief
from diptych.handle.view import Memo, View
from diptych.metadata.payloads import Layout, quoted
from diptych.runtime.validation_messages import actual_value, error_path, expectation, nearest
from diptych.search.filters import equals
from diptych.search.store_calls import read_store

Bounds: TypeAlias = models.Range | models.DatetimeRange | models.GeoBoundingBox
Expression: TypeAlias = Any  # one of qdrant-client's expressions, a condition, a variable's name or a number
_DECAYS: dict[Curve, tuple[Any, str]] = {
    "exp": (models.ExpDecayExpression, "exp_decay"),
    "gauss": (models.GaussDecayExpression, "gauss_decay"),
    "linear": (models.LinDecayExpression, "lin_decay"),
}
MOST_PARTS = 32
_SCORE = "$score"


@dataclass(frozen=True, slots=True, repr=False)
class Retrieve:
    """The first `candidates` of one slot. `+` adds another slot, `>>` a later stage.

    Args:
        slot: the slot's name.
        candidates: how many it passes on; as the only stage of a pipeline it returns `limit` hits instead.
        params: Qdrant's search parameters for this slot.
    """

    slot: str
    candidates: int = 100
    params: models.SearchParams | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_count("candidates", self.candidates, "Retrieve", MOST_CANDIDATES)
        if self.params is not None and not isinstance(self.params, models.SearchParams):
            raise SearchError(
                "unknown search parameters",
                got=type(self.params).__name__,
                expected="qdrant_client.models.SearchParams",
            )

    def __add__(self, other: Retrieve | Pipeline) -> Pipeline:
        return Pipeline((self,)) + other

    def __rshift__(self, stage: Stage) -> Pipeline:
        return Pipeline((self,)) >> stage

    def __repr__(self) -> str:
        params = self.params.model_dump(exclude_none=True) if self.params else {}
        shown = ", ".join(f"{name}={value!r}" for name, value in params.items())
        return f"Retrieve({self.slot!r}, {self.candidates!r}{f', params=SearchParams({shown})' if params else ''})"


@dataclass(frozen=True, slots=True, repr=False)
class Pipeline:
    """Retrieval from one or more slots, and the stages after it.

        Retrieve("dense", 100) + Retrieve("lexical", 100) >> Rrf(k=60) >> Rescore("late", 50) >> Rerank("mine", 20)

    Qdrant runs retrieval, fusion, rescoring, boosting and diversification in one request. `Linear` without `missing`, a
    `weight` of `Rescore`, and on several shards any fusion that is not last, are computed by diptych between requests.

    Every query reads these, so they are derived once:

    - `stages`: the stages after retrieval, in order.
    - `slots`: the slots it needs, each once.
    - `depth`: the most hits that a query can get; None for a single slot alone, which has no such limit.
    - `label`: the key in `Hit.stages` of the score that Qdrant, or `Linear`, gave last.

    Raises:
        SearchError: an impossible order, a slot twice, weights of slots that are not retrieved, a boost together with
            `Diversify`.
    """

    retrieve: tuple[Retrieve, ...]
    fuse: Fusion | None = None
    rescore: Rescore | None = None
    diversify: Diversify | None = None
    rerank: tuple[Rerank, ...] = ()
    boost: Boost | None = None
    stages: tuple[Stage, ...] = field(init=False, compare=False)
    slots: tuple[str, ...] = field(init=False, compare=False)
    depth: int | None = field(init=False, compare=False)
    label: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        narrow = [stage for stage in (self.rescore, self.diversify) if stage is not None]
        scored = [stage for stage in (self.fuse, self.rescore, self.boost, self.diversify) if stage is not None]
        names, stages = [branch.slot for branch in self.retrieve], (*scored, *self.rerank)
        widths = [stage.candidates for stage in (*narrow, *self.rerank)]
        derived = {
            "stages": stages,
            "slots": tuple(dict.fromkeys([*names, *(stage.slot for stage in narrow)])),
            "depth": min([sum(branch.candidates for branch in self.retrieve), *widths]) if stages else None,
            "label": scored[-1].label if scored else next(iter(names), ""),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # as a frozen dataclass sets its own fields
        if self.boost and self.diversify:
            what = "Diversify chooses by similarity alone, so a boost would have no effect"
            raise SearchError(what, where=repr(self), do="leave one of them out")
        for name in names:
            if names.count(name) > 1:
                raise SearchError(f"slot {name!r} is retrieved twice", where=repr(self), do="name it once")
        for name in getattr(self.fuse, "weights", ()):
            if name not in names:
                raise SearchError(
                    f"a weight for {name!r}, which is not retrieved", where=repr(self), expected=", ".join(names)
                )

    @classmethod
    def from_config(cls, config: SearchConfig, slots: Iterable[str]) -> Pipeline:
        """The pipeline that a config's `search` section describes over these slots."""
        params = search_params(config.params)
        branches = tuple(Retrieve(slot, n, params=params) for slot, n in config.retrieved(slots).items())
        return cls(
            branches,
            config.fuse if len(branches) > 1 else None,
            config.rescore,
            config.diversify,
            tuple(config.rerank),
            Boost(*config.boost) if config.boost else None,
        )

    @classmethod
    def of_slot(cls, slot: str, config: SearchConfig) -> Pipeline:
        """The pipeline of one slot without later stages, with the config's `search.params`."""
        return cls((Retrieve(slot, params=search_params(config.params)),))

    def __add__(self, other: Retrieve | Pipeline) -> Pipeline:
        added = other.retrieve if isinstance(other, Pipeline) else (other,)
        if self.stages or (isinstance(other, Pipeline) and other.stages):
            raise SearchError("retrieve from all slots before the first stage", where=f"{self!r} + {other!r}")
        return Pipeline((*self.retrieve, *added))

    def __rshift__(self, stage: Stage) -> Pipeline:
        if isinstance(stage, Rerank):
            return replace(self, rerank=(*self.rerank, stage))
        fields = (("fuse", Rrf | Dbsf | Linear), ("rescore", Rescore), ("boost", Boost), ("diversify", Diversify))
        places = [n for n, (_, kinds) in enumerate(fields) if isinstance(stage, kinds)]
        if not places:
            raise SearchError("not a stage", got=brief(stage), expected="such as Rrf(), Rescore(...) or Rerank(...)")
        if self.rerank or any(getattr(self, other) for other, _ in fields[places[0] :]):
            raise SearchError(
                f"{stage!r} comes too late",
                where=repr(self),
                expected="Retrieve >> fusion >> Rescore >> Boost or Diversify >> Rerank >> ..., each but Rerank once",
            )
        changed: Pipeline = replace(self, **{fields[places[0]][0]: stage})  # type: ignore[arg-type]
        return changed

    def __repr__(self) -> str:
        retrieval = " + ".join(map(repr, self.retrieve))
        return " >> ".join([retrieval, *map(repr, self.stages)])


def called(name: str, view: View) -> Pipeline:
    """The pipeline with this name: a single slot, or one of the `parts` of the view's pipeline.

    Raises:
        SearchError: there is none.
    """
    if name in view.slots:
        return Pipeline.of_slot(name, view.search_config)
    known = parts(Pipeline.from_config(view.search_config, view.slots))
    if name not in known:
        names = dict.fromkeys([*view.slots, *known])
        raise SearchError(
            f"there is no pipeline {name!r}",
            where=f"collection {view.name!r}",
            expected=", ".join(repr(other) for other in names),
            do=nearest(name, names),
        )
    return known[name]


def parts(pipeline: Pipeline) -> dict[str, Pipeline]:
    """Each retrieved slot alone, then their fusion, then with each further stage, up to the whole pipeline.

    The names are `dense`, `lexical`, `rrf`, `rrf > late`, `rrf > late > cross-encoder`: those of `diptych evaluate`.
    """
    found = {branch.slot: Pipeline((branch,)) for branch in pipeline.retrieve}
    grown, name = Pipeline(pipeline.retrieve), pipeline.retrieve[0].slot
    for stage in pipeline.stages:
        grown = grown >> stage
        name = stage.label if stage is pipeline.fuse else f"{name} > {stage.label}"
        found[name] = grown
    return found


def search_params(config: ParamsConfig) -> models.SearchParams | None:
    """Qdrant's search parameters, None when all are the defaults."""
    if config == ParamsConfig():
        return None
    quantization = None
    if config.oversampling is not None or config.rescore is not None:
        quantization = models.QuantizationSearchParams(rescore=config.rescore, oversampling=config.oversampling)
    return models.SearchParams(hnsw_ef=config.hnsw_ef, exact=config.exact or None, quantization=quantization)


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
        read: list[BoostPart] = []
        for part in parts:
            try:
                read.append(BOOSTS.validate_python([dict(part)])[0] if isinstance(part, Mapping) else part)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(["boost", *error_path(first).split(".")[2:]])  # without the list's index and the kind
                got, expected = actual_value(first), expectation(first, mapping="an object")
                raise SearchError("not a boost", where=place, got=got, expected=expected) from error
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


Stage: TypeAlias = Fusion | Rescore | Boost | Diversify | Rerank


def key_of(part: BoostPart, layout: Layout) -> str:
    """The path of the part's field in payloads."""
    return quoted(layout.field(part.field))


@Memo
def index_types(view: View) -> dict[str, str]:
    """The types of the collection's payload indexes, by key."""
    schema = read_store(view, lambda: view.client.get_collection(view.name)).payload_schema
    return {key: str(index.data_type.value) for key, index in schema.items()}


def require_fitting_indexes(view: View, boost: Boost) -> None:
    """Raise SearchError if a field has a payload index that its boost cannot read."""
    for part in boost.parts:
        index = index_types(view).get(key_of(part, view.layout))
        if index is not None and index not in INDEXES[part.kind]:
            raise SearchError(
                f"a {part.kind} boost cannot read this field",
                where=f"collection {view.name!r}, field {part.field!r}",
                got=f"a payload index of type {index}",
                expected=" or ".join(INDEXES[part.kind]),
            )


def _value(part: BoostPart, key: str, now: datetime) -> Expression:
    """Qdrant's expression of the part's value, from 0 to 1, for the payload key `key`."""
    match part:
        case FieldBoost():
            values = part.equals if isinstance(part.equals, tuple) else (part.equals,)
            conditions = [condition for value in values for condition in equals(key, value)]
            return conditions[0] if len(conditions) == 1 else models.Filter(should=conditions)
        case RecencyBoost():
            target = part.target or now
            zoned = target if target.tzinfo else target.replace(tzinfo=UTC)
            at = models.DatetimeExpression(datetime=zoned.isoformat())
            time = models.DatetimeKeyExpression(datetime_key=key)
            # Times after the target, such as those of scheduled documents, count as the target.
            later, earlier = models.DatetimeRange(gt=zoned), models.DatetimeRange(lte=zoned)
            decayed = _decay(part, time, at, part.seconds)
            return models.SumExpression(sum=[_guarded(key, later), _guarded(key, earlier, decayed)])
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
