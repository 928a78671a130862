"""The stages of a search: each class is a section of the config and the stage that runs, and checks itself once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, TypeVar, cast, dataclass_transform

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from diptych.config.problems import PipelineProblems, Problem
from diptych.config.section import (
    Candidates,
    Duration,
    Factor,
    Positive,
    Section,
    Share,
    Weight,
    fields_of,
    gather_options,
)
from diptych.errors import SearchError
from diptych.protocols import Reranker
from diptych.runtime.validation_messages import actual_value, error_path, expectation, nearest, remedy

if TYPE_CHECKING:
    Seconds: TypeAlias = float | str | timedelta  # what a call may give; the stage keeps seconds
else:
    Seconds = Duration

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def stage(described: type[T]) -> type[T]:
    """A frozen dataclass that sections of a config make as well as calls, and that prints as the call.

    A call with unusable values raises SearchError, with the texts that a config's ConfigError has.
    """
    described.__repr__ = _as_called  # type: ignore[method-assign]
    if "kind" in described.__annotations__:
        described._dumped = model_serializer(mode="wrap")(_with_kind)  # type: ignore[attr-defined]
    config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra=_require_kind)
    made: Any = dataclass(described, frozen=True, repr=False, config=config)
    init, call = made.__init__, signature(made)

    @wraps(init)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        try:
            init(self, *args, **values)
        except ValidationError as error:
            names = list(call.bind(*args, **values).arguments)  # raises TypeError for a wrong call
            raise refusal(error, made.__name__, names) from error

    made.__init__ = checked
    return made  # type: ignore[no-any-return]


def _require_kind(schema: dict[str, Any]) -> None:
    """Calls have a default for the kind, which tells a config's sections apart."""
    if kind := schema["properties"].get("kind"):
        del kind["default"]
        schema["required"] = ["kind", *schema.get("required", [])]


def _with_kind(self: Any, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
    """A section needs its kind, also where defaults are left out."""
    return {"kind": self.kind, **handler(self)}


def refusal(error: ValidationError, where: str, names: list[str]) -> SearchError:
    """The first of pydantic's errors about a call; it names arguments given by position by their place."""
    detail = error.errors(include_url=False)[0]
    nested = detail.get("ctx", {}).get("error")
    if isinstance(nested, PipelineProblems):
        (problem,) = nested.problems
        return SearchError(problem.what, where=where, got=problem.got, expected=problem.expected, do=problem.do)
    if not detail["loc"]:
        return SearchError("unusable values", where=where, expected=expectation(detail))
    first, *inner = detail["loc"]
    path = error_path({"loc": (names[first] if isinstance(first, int) else first, *inner)})
    got, expected = actual_value(detail), expectation(detail)
    what = f"{path.partition('.')[0]} is not usable"
    return SearchError(what, where=f"{where}.{path}", got=got, expected=expected, do=remedy(detail))


def _as_called(self: Any) -> str:
    """The call that makes the stage. Defaults of keyword-only fields, and of those with `repr=False`, are left out."""
    shown = []
    facts = sorted(fields_of(type(self)).items(), key=lambda fact: bool(fact[1].kw_only))
    for place, (name, fact) in enumerate(facts):
        value = getattr(self, name)
        is_default = value == fact.get_default(call_default_factory=True)
        if name == "kind" or (is_default and (fact.kw_only or not fact.repr)):
            continue
        text = self.label + "()" if name == "adapter" and not isinstance(value, str) else repr(value)
        leads = name == ("slot", "candidates")[place] if place < 2 else False
        shown.append(text if leads or name in ("adapter", "normalize") else f"{name}={text}")
    return f"{type(self).__name__}({', '.join(shown)})"


def _problem(what: str, got: str, expected: str = "", do: str = "") -> PipelineProblems:
    return PipelineProblems([Problem((), what, got, expected, do)])


Weights: TypeAlias = Mapping[str, Weight]


@stage
class Rrf:
    """Reciprocal rank fusion: the sum over slots of weight / (k + rank), ranks from 1 as in the paper.

    Cormack, Clarke, Buettcher: "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
    SIGIR 2009.
    """

    k: Positive = Field(default=60, description="k of the paper, with ranks from 1; Qdrant's own k is one larger.")
    weights: Weights = Field(default_factory=dict, repr=False, description="Weight by slot; 1 unless set.")
    kind: Literal["rrf"] = Field(default="rrf", kw_only=True)

    label = "rrf"


@stage
class Dbsf:
    """Distribution-based score fusion: each slot's scores mapped by mean -+ 3 deviations to 0..1, then added."""

    kind: Literal["dbsf"] = Field(default="dbsf", kw_only=True)

    label = "dbsf"


@stage
class Linear:
    """The sum over slots of weight times normalised score.

    `minmax` maps a slot's candidates to 0..1, `zscore` to mean 0 and deviation 1. A document that is not among them
    counts as their lowest, and diptych computes the sum. If all scores are equal, found documents count 1, others 0.

    With `missing`, a document that is not among a slot's candidates counts that many deviations from their mean. Then
    no slot's lowest score has to be known, and Qdrant computes the sum in the request that retrieves the candidates.
    If all scores are equal, found documents count 0.
    """

    normalize: Literal["minmax", "zscore"] = Field(default="minmax", description="How scores are made comparable.")
    weights: Weights = Field(default_factory=dict, repr=False, description="Weight by slot; 1 unless set.")
    missing: Factor | None = Field(
        default=None,
        kw_only=True,
        description="With zscore: score of a document that a slot did not find, in standard deviations from the slot's"
        " mean, such as -1; Qdrant then fuses. null takes the slot's lowest score, and diptych fuses.",
    )
    kind: Literal["linear"] = Field(default="linear", kw_only=True)

    label = "linear"

    @model_validator(mode="after")
    def _missing_fits(self) -> Self:
        if self.missing is not None and self.normalize != "zscore":
            raise _problem("missing is not usable", f"{self.normalize!r}, missing={self.missing}", "zscore")
        return self


Fusion: TypeAlias = Annotated[Rrf | Dbsf | Linear, Field(discriminator="kind")]


@stage
class Rescore:
    """Rescores the best `candidates` with the vectors of another slot, usually a multi-vector one, inside Qdrant.

    With a weight below 1, diptych combines both scores between two requests, each scaled from 0 to 1 over a query's
    candidates.
    """

    slot: str = Field(description="Slot whose vectors give the new scores.")
    candidates: Candidates = Field(default=50, description="Candidates to rescore.")
    weight: Share = Field(
        default=1.0, kw_only=True, description="Weight of its score, 0 to 1. The rest is the previous stage's score."
    )

    @property
    def label(self) -> str:
        """The key of its score in `Hit.stages`."""
        return self.slot


MOST_DIVERSIFIED = 16_384  # candidates that Qdrant diversifies


@stage
class Diversify:
    """Maximal marginal relevance over the best `candidates`, inside Qdrant, with the vectors of a dense slot.

    Each choice maximises relevance * sim(query, d) - (1 - relevance) * max sim(d, chosen): `relevance` is the lambda of
    Carbonell and Goldstein, SIGIR 1998. Qdrant's own `diversity` is 1 - relevance. Hits come in the order of choice;
    their score is sim(query, d).
    """

    slot: str = Field(description="Dense slot whose vectors measure similarity.")
    relevance: Share = Field(default=0.5, description="The paper's lambda: 1 is pure relevance, 0 is pure diversity.")
    candidates: Annotated[int, Field(ge=1, le=MOST_DIVERSIFIED, strict=True)] = Field(
        default=100, description="Candidates to choose from."
    )

    label = "mmr"


@stage
class EarlyExit:
    """The rule for stopping a reranker: the last `patience` blocks added nothing to the best hits.

    Candidates are scored in their order, `block` at a time. Let n be the number of hits wanted from the stage: offset +
    limit of the search, or the candidates of the next reranker. A block is *quiet* if n were scored before it and none
    of its candidates scores higher than the n-th best of them. After `patience` quiet blocks in a row the rest is not
    scored, and left out: it has no score of this stage.

    Patience as in Busolin et al.: "Early Exit Strategies for Approximate k-NN Search in Dense Retrieval", CIKM 2024,
    with blocks of candidates in place of clusters of an index.
    """

    block: Positive = Field(default=10, description="Candidates to score at a time, best first.")
    patience: Positive = Field(default=2, description="Stop after this many blocks that add nothing to the best hits.")


def _named_or_made(adapter: object) -> object:
    if not isinstance(adapter, str | Reranker):
        raise ValueError("an adapter's name, or an object with predict, max_length and independent")
    return adapter


@stage
class Rerank:
    """A reranker over the best `candidates`, which it passes on in its own order; several form a cascade.

    Further keys of a section are its options. A weight scales its scores and the previous stage's from 0 to 1 over a
    query's candidates. `early_exit` and `deadline` are for `independent` rerankers only. A program may give an
    object that satisfies `Reranker`.
    """

    adapter: Annotated[str | Reranker, PlainValidator(_named_or_made), WithJsonSchema({"type": "string"})] = Field(
        description="Name of a reranker."
    )
    candidates: Candidates = Field(default=50, description="Candidates to rerank, from the previous stage.")
    options: Mapping[str, Any] = Field(default_factory=dict, repr=False, description="Options of the adapter.")
    early_exit: EarlyExit | None = Field(
        default=None, kw_only=True, description="When to stop before all are scored; null scores all."
    )
    weight: Share = Field(
        default=1.0, kw_only=True, description="Weight of its score, 0 to 1. The rest is the previous stage's score."
    )
    deadline: Seconds | None = Field(
        default=None,
        kw_only=True,
        description="Time after which no further batch is scored, such as 300ms; unscored candidates come last, in "
        "their previous order. null scores all. An adapter's own option `deadline` goes under `options`.",
    )
    read: Literal["passages", "document"] = Field(
        default="passages",
        kw_only=True,
        description="passages: the best passages of a document, if a searched slot has some, else its beginning.",
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys of a section that are not the stage's own are the reranker's options."""
        return gather_options(raw, tuple(name for name in fields_of(cls) if name != "options"))

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        do = "leave one of them out"
        if self.deadline is not None and self.early_exit is not None:
            what = "a deadline and early_exit cannot be combined: one keeps unscored candidates, the other drops them"
            raise _problem(what, f"deadline={self.deadline!r} and {self.early_exit!r}", do=do)
        if self.weight < 1 and self.early_exit is not None:
            what = "early_exit cannot be combined with a weight: it looks at the reranker's scores alone"
            raise _problem(what, f"weight={self.weight!r} and {self.early_exit!r}", do=do)
        return self

    @property
    def seconds(self) -> float | None:
        """The deadline in seconds; None if there is none."""
        return cast("float | None", self.deadline)

    @property
    def label(self) -> str:
        """The adapter's name, the key of this stage's scores in `Hit.stages`; an object has its class's name."""
        return self.adapter if isinstance(self.adapter, str) else type(self.adapter).__name__


# Boosts: each raises or lowers scores by a value from 0 to 1 that Qdrant reads from the documents' metadata.

Curve: TypeAlias = Literal["exp", "gauss", "linear"]
# Qdrant computes with float32: numbers beyond these limits become 0, 1 or infinite, or lose their digits.
LARGEST, _SMALLEST = 1e15, 1e-15
Number: TypeAlias = Annotated[float, Field(ge=-LARGEST, le=LARGEST, strict=True)]
Midpoint: TypeAlias = Annotated[float, Field(ge=1e-6, le=1 - 1e-6, strict=True)]
Distance: TypeAlias = Annotated[float, Field(ge=_SMALLEST, le=LARGEST, strict=True)]
MIDPOINT = "Value at a distance of `scale`; it is 1 at no distance."
CURVE = "How the value falls with the distance."
Scalar: TypeAlias = str | int | float | bool


@stage
class _BoostPart:
    field: str = Field(min_length=1, description="Metadata key; dots separate nested keys.")
    weight: Factor = Field(
        default=0.5,
        kw_only=True,
        description="Score that the value 1 adds, as a share of the score; negative lowers it.",
    )
    relative: bool = Field(
        default=True,
        kw_only=True,
        strict=True,
        description="Whether `weight` is a share of the score; false adds it unscaled.",
    )

    @property
    def label(self) -> str:
        """The part's name in explanations."""
        return f"{self.kind} {self.field}"  # type: ignore[attr-defined]


@stage
class FieldBoost(_BoostPart):
    """1 for documents whose `field` has the value `equals`, or one of several; lists match by any of their values."""

    equals: Scalar | Annotated[Sequence[Scalar], Field(min_length=1), AfterValidator(tuple)] = Field(
        description="A value, or a list of values of which one must match."
    )
    kind: Literal["field"] = Field(default="field", kw_only=True)


@stage
class RecencyBoost(_BoostPart):
    """1 for documents of the time `target` and later ones, `midpoint` for those that are `scale` older.

    The field is a time, as text that Qdrant reads as a datetime. A target without a zone is UTC.
    """

    scale: Seconds = Field(description="Age at which the value is `midpoint`, such as 30d.")
    midpoint: Midpoint = Field(default=0.5, repr=False, description=MIDPOINT)
    curve: Curve = Field(default="exp", repr=False, description=CURVE)
    target: datetime | None = Field(
        default=None, repr=False, description="Time that has the value 1; null is the time of the search."
    )
    kind: Literal["recency"] = Field(default="recency", kw_only=True)

    @property
    def seconds(self) -> float:
        """The scale in seconds."""
        return cast("float", self.scale)


@stage
class NumberBoost(_BoostPart):
    """1 for documents whose number is `target`, `midpoint` for those at a distance of `scale`, by a `curve`."""

    target: Number = Field(description="Number that has the value 1.")
    scale: Distance = Field(description="Difference at which the value is `midpoint`.")
    midpoint: Midpoint = Field(default=0.5, repr=False, description=MIDPOINT)
    curve: Curve = Field(default="exp", repr=False, description=CURVE)
    kind: Literal["number"] = Field(default="number", kw_only=True)


@stage
class RangeBoost(_BoostPart):
    """0 for documents whose number is `low` or beyond, 1 for `high` or beyond, linear between them."""

    low: Number = Field(description="Number that has the value 0, as do numbers beyond it.")
    high: Number = Field(description="Number that has the value 1, as do numbers beyond it; may be less than `low`.")
    kind: Literal["range"] = Field(default="range", kw_only=True)

    @model_validator(mode="after")
    def _is_wide(self) -> Self:
        if abs(self.high - self.low) < _SMALLEST:
            got, expected = f"low {self.low}, high {self.high}", "`low` and `high` that differ"
            raise _problem("the range has no width", got, expected)
        return self


@stage
class GeoBoost(_BoostPart):
    """1 for documents at a point on earth, `midpoint` for those at a distance of `scale` metres, by a `curve`."""

    lat: Annotated[float, Field(ge=-90, le=90, strict=True)] = Field(description="Latitude of the point.")
    lon: Annotated[float, Field(ge=-180, le=180, strict=True)] = Field(description="Longitude of the point.")
    scale: Distance = Field(description="Distance in metres at which the value is `midpoint`.")
    midpoint: Midpoint = Field(default=0.5, repr=False, description=MIDPOINT)
    curve: Curve = Field(default="exp", repr=False, description=CURVE)
    kind: Literal["geo"] = Field(default="geo", kw_only=True)


PARTS = (FieldBoost, RecencyBoost, NumberBoost, RangeBoost, GeoBoost)
BoostPart: TypeAlias = Annotated[
    FieldBoost | RecencyBoost | NumberBoost | RangeBoost | GeoBoost, Field(discriminator="kind")
]
BOOSTS: TypeAdapter[list[BoostPart]] = TypeAdapter(list[BoostPart])
# Types of payload indexes that fit each kind of boost.
INDEXES: dict[str, tuple[str, ...]] = {
    "field": ("keyword", "integer", "float", "bool", "uuid"),
    "recency": ("datetime",),
    "number": ("integer", "float"),
    "range": ("integer", "float"),
    "geo": ("geo",),
}

ORDERED = ("datetime", "integer", "float")  # types by which Qdrant can order points


class Recent(Section):
    """Puts the newest documents, such as the last turns of a conversation, first in every answer."""

    field: str = Field(description="Metadata field to sort by, a number or date in `populate.indexes`.")
    count: Annotated[int, Field(ge=1, le=100)] = Field(4, description="Number of documents, newest first.")


def boost_problems(boosts: Sequence[BoostPart], indexes: Mapping[str, str]) -> Iterator[Problem]:
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
