"""The `search` section: the stages of the pipeline, and checks that they fit each other and the slots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych.config import stages
from diptych.config.boost import BoostConfig, Recent
from diptych.config.locations import Location
from diptych.config.problems import PipelineProblems, Problem
from diptych.config.section import Candidates, Duration, Factor, Positive, Score, Section, Weight, gather_options
from diptych.errors import SearchError
from diptych.runtime.validation_messages import nearest

CANDIDATES = 100  # of a slot whose number is not given: ten times the default limit
DocumentIds = Annotated[list[str], Field(max_length=1000)]


class StageSection(Section):
    """A section that describes a stage of searches. The stage checks which of its values fit each other."""

    describes: ClassVar[type]

    def stage(self) -> Any:
        """The stage, as the section's class names it in `describes`."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        return self.describes(**{k: v.stage() if isinstance(v, StageSection) else v for k, v in values.items()})

    @model_validator(mode="after")
    def _has_a_stage(self) -> Self:
        try:
            self.stage()
        except SearchError as error:
            problem = Problem((), error.what, error.got, error.expected, error.do)
            raise PipelineProblems([problem]) from error
        return self


class RrfFusion(StageSection):
    """Reciprocal rank fusion: the sum of weight / (k + rank), ranks from 1 as in the paper."""

    describes = stages.Rrf

    kind: Literal["rrf"] = "rrf"
    k: Positive = Field(60, description="k of the paper, with ranks from 1; Qdrant's own k is one larger.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight by slot; 1 unless set.")


class DbsfFusion(StageSection):
    """Distribution-based score fusion: scores scaled by mean plus and minus three deviations, then added."""

    describes = stages.Dbsf

    kind: Literal["dbsf"] = "dbsf"


class LinearFusion(StageSection):
    """A weighted sum of normalised scores of each slot's candidates."""

    describes = stages.Linear

    kind: Literal["linear"]
    normalize: Literal["minmax", "zscore"] = Field("minmax", description="How scores are made comparable.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight by slot; 1 unless set.")
    missing: Factor | None = Field(
        None,
        description="With zscore: score of a document that a slot did not find, in standard deviations from the slot's"
        " mean, such as -1; Qdrant then fuses. null takes the slot's lowest score, and diptych fuses.",
    )


Fusion = Annotated[RrfFusion | DbsfFusion | LinearFusion, Field(discriminator="kind")]


class Rescore(StageSection):
    """Rescoring of the best candidates by another slot, usually a multi-vector one."""

    describes = stages.Rescore

    slot: str = Field(description="Slot whose vectors give the new scores.")
    candidates: Candidates = Field(50, description="Candidates to rescore.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Weight of its score, 0 to 1. The rest is the previous stage's score."
    )


class EarlyExit(StageSection):
    """A reranker stops once blocks of further candidates bring nothing into the best that are wanted."""

    describes = stages.EarlyExit

    block: Positive = Field(10, description="Candidates to score at a time, best first.")
    patience: Positive = Field(2, description="Stop after this many blocks that add nothing to the best hits.")


class Explore(StageSection):
    """A reranker reads documents beyond its candidates, those that its own scores so far point to."""

    describes = stages.Explore

    anchors: str = Field(description="Slot with this reranker's anchor scores.")
    rounds: Annotated[int, Field(ge=2, le=100)] = Field(
        4, description="Scoring rounds: first the candidates, then the documents that their scores point to."
    )
    budget: Annotated[int, Field(ge=2, le=10_000)] = Field(
        100, description="Maximum documents scored per query, in all rounds together."
    )
    ridge: Annotated[float, Field(gt=0)] = Field(
        0.05, description="Ridge penalty of the fit to the scores, as a share of the mean squared anchor score."
    )


class RerankStage(StageSection):
    """A reranker over the best candidates; further keys are its options. Several stages make a cascade."""

    describes = stages.Rerank

    adapter: str = Field(description="Name of a reranker.")
    candidates: Candidates = Field(50, description="Candidates to rerank, from the previous stage.")
    early_exit: EarlyExit | None = Field(None, description="When to stop before all are scored; null scores all.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Weight of its score, 0 to 1. The rest is the previous stage's score."
    )
    deadline: Duration | None = Field(
        None,
        description="Time after which no further batch is scored, such as 300ms; unscored candidates come last, in "
        "their previous order. null scores all. An adapter's own option `deadline` goes under `options`.",
    )
    read: Literal["passages", "document"] = Field(
        "passages",
        description="passages: the best passages of a document, if a searched slot has some, else its beginning.",
    )
    explore: Explore | None = Field(
        None, description="Also find documents that are not candidates; null reranks candidates only."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys that are not the stage's own are the reranker's options."""
        return gather_options(raw, tuple(name for name in cls.model_fields if name != "options"))


class Diversify(StageSection):
    """Maximal marginal relevance over the candidates of one slot."""

    describes = stages.Diversify

    slot: str = Field(description="Dense slot whose vectors measure similarity.")
    relevance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="The paper's lambda: 1 is pure relevance, 0 is pure diversity."
    )
    candidates: Annotated[int, Field(ge=1, le=stages.MOST_DIVERSIFIED)] = Field(
        100, description="Candidates to choose from."
    )


class SearchParams(Section):
    """Settings of the approximate search."""

    hnsw_ef: Positive | None = Field(None, description="Width of the graph search; null is Qdrant's default.")
    exact: bool = Field(False, description="Compare with every vector instead of using the graph.")
    oversampling: Annotated[float, Field(ge=1)] | None = Field(None, description="Quantization: factor of candidates.")
    rescore: bool | None = Field(None, description="With quantization: rescore candidates with the original vectors.")


class SearchConfig(Section):
    """The search pipeline, from candidates to hits."""

    retrieve: dict[str, Candidates] = Field(
        default_factory=dict, description="Candidates per slot; empty means 100 from each slot that is not a rescorer."
    )
    fuse: Fusion = Field(
        default_factory=DbsfFusion,  # measured against the others in docs/research/measurements.md
        description="How the slots' candidates become one list.",
    )
    rescore: Rescore | None = Field(None, description="Rescoring by another slot, inside Qdrant.")
    boost: list[BoostConfig] = Field(
        default_factory=list,
        max_length=32,
        description="Raises or lowers scores by the documents' metadata, inside Qdrant.",
    )
    diversify: Diversify | None = Field(None, description="Maximal marginal relevance, inside Qdrant.")
    rerank: list[RerankStage] = Field(default_factory=list, description="Reranker cascade, first stage first.")
    params: SearchParams = Field(default_factory=SearchParams, description="Settings of the approximate search.")
    limit: Positive = Field(10, description="Hits per query.")
    score_threshold: Score | None = Field(None, description="Drop hits below this score.")
    passages: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="Maximum passages per hit, best first, if a searched slot has `passages`."
    )
    highlight: bool = Field(
        False, description="Whether hits say which sentence and words answer; encodes the sentences of each hit."
    )
    pin: DocumentIds = Field(
        default_factory=list, description="Ids of documents to put first, in this order, for every query."
    )
    exclude: DocumentIds = Field(default_factory=list, description="Ids of documents to leave out of every search.")
    recent: Recent | None = Field(
        None, description="Put the newest documents first, after those of `pin`, for every query."
    )
    remember: Annotated[int, Field(ge=0)] = Field(
        1024, description="Query vectors to keep in memory per slot; 0 encodes each query again."
    )

    def retrieved(self, slots: Iterable[str]) -> dict[str, int]:
        """Candidates of each slot that is retrieved from: what `retrieve` says, or 100 of all.

        Without the rescorer, and the slots of anchors.
        """
        others = {stage.explore.anchors for stage in self.rerank if stage.explore}
        others |= {self.rescore.slot} if self.rescore else set()
        return dict(self.retrieve) or {name: CANDIDATES for name in slots if name not in others}


def pipeline_problems(search: SearchConfig, slots: Collection[str]) -> list[Problem]:
    """What does not fit: slots that do not exist, weights of slots that are not retrieved, stages that widen."""
    return [
        *_unknown_slots(search, slots),
        *_weights(search, slots),
        *_boosted_and_diverse(search),
        *_pinned_and_excluded(search),
        *_cascade(search),
        *_limit(search, slots),
    ]


def _unknown_slots(search: SearchConfig, slots: Collection[str]) -> Iterator[Problem]:
    references: list[tuple[Location, str]] = [(("search", "retrieve", name), name) for name in search.retrieve]
    if search.rescore:
        references.append((("search", "rescore", "slot"), search.rescore.slot))
    if search.diversify:
        references.append((("search", "diversify", "slot"), search.diversify.slot))
    for n, stage in enumerate(search.rerank):
        if stage.explore:
            references.append((("search", "rerank", n, "explore", "anchors"), stage.explore.anchors))
    for location, name in references:
        if name not in slots:
            do = nearest(name, slots) or "define it under slots"
            yield Problem(location, f"there is no slot {name!r}", expected=", ".join(slots), do=do)


def _weights(search: SearchConfig, slots: Collection[str]) -> Iterator[Problem]:
    retrieved = search.retrieved(slots)
    for name in getattr(search.fuse, "weights", {}):
        if name not in retrieved:
            location = ("search", "fuse", "weights", name)
            what = f"a weight for {name!r}, which is not retrieved"
            do = f"add {name!r} to search.retrieve" if name in slots else nearest(name, retrieved)
            yield Problem(location, what, expected=", ".join(retrieved), do=do)


def _boosted_and_diverse(search: SearchConfig) -> Iterator[Problem]:
    if search.boost and search.diversify:
        what = "diversify chooses by similarity alone, so a boost would have no effect"
        yield Problem(("search", "boost"), what, do="leave out `boost` or `diversify`")


def _pinned_and_excluded(search: SearchConfig) -> Iterator[Problem]:
    for place, identifier in enumerate(search.pin):
        if identifier in search.exclude:
            what = f"document {identifier!r} is both pinned and excluded"
            yield Problem(("search", "pin", place), what, do="name it once")


def _cascade(search: SearchConfig) -> Iterator[Problem]:
    for n, (before, after) in enumerate(pairwise(search.rerank), 1):
        most = before.stage().passes_on
        if after.candidates > most:
            what = "a reranker asks for more candidates than the one before it passes on"
            at = ("search", "rerank", n, "candidates")
            yield Problem(at, what, got=str(after.candidates), expected=f"at most {most}")


def _limit(search: SearchConfig, slots: Collection[str]) -> Iterator[Problem]:
    """The problem of a limit above what the last stage passes on; a single slot has no such limit."""
    last = search.diversify or search.rescore
    retrieved = search.retrieved(slots)
    depth = (
        search.rerank[-1].stage().passes_on
        if search.rerank
        else last.candidates
        if last
        else sum(retrieved.values())
        if len(retrieved) > 1
        else search.limit
    )
    if search.limit > depth and "limit" in search.model_fields_set:
        do = "raise the candidates of the last stage, or lower the limit"
        expected = f"at most {depth}, what the last stage passes on"
        yield Problem(("search", "limit"), "the limit can never be reached", str(search.limit), expected, do)
