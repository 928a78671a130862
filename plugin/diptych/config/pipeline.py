"""The `search` section: the stages of the pipeline, and checks that they fit each other and the slots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from diptych.config.boost import BoostConfig, Recent
from diptych.config.locations import Location
from diptych.config.problems import Problem
from diptych.config.section import Duration, Positive, Section, gather_options
from qdrant_edge_client.validation_messages import nearest

CANDIDATES = 100  # of a slot whose number is not given: ten times the default limit
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DocumentIds = Annotated[list[str], Field(max_length=1000)]


class RrfFusion(Section):
    """Reciprocal rank fusion: the sum of weight / (k + rank), ranks from 1 as in the paper."""

    kind: Literal["rrf"] = "rrf"
    k: Positive = Field(60, description="The paper's k, with ranks from 1; Qdrant's own k is one larger.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight of a slot; 1 unless set.")


class DbsfFusion(Section):
    """Distribution-based score fusion: scores scaled by mean plus and minus three deviations, then added."""

    kind: Literal["dbsf"] = "dbsf"


class LinearFusion(Section):
    """A weighted sum of normalised scores of each slot's candidates."""

    kind: Literal["linear"]
    normalize: Literal["minmax", "zscore"] = Field("minmax", description="How scores are made comparable.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight of a slot; 1 unless set.")
    missing: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None,
        description="With zscore: what a document counts that a slot did not find, in deviations from the mean of what "
        "it did, such as -1; then Qdrant fuses. Its lowest candidate's score unless set; then the host fuses.",
    )

    @model_validator(mode="after")
    def _missing_is_of_zscore(self) -> LinearFusion:
        if self.missing is not None and self.normalize != "zscore":
            raise ValueError("`missing` is in deviations: it needs `normalize: zscore`")
        return self


Fusion = Annotated[RrfFusion | DbsfFusion | LinearFusion, Field(discriminator="kind")]


class Rescore(Section):
    """Rescoring of the best candidates by another slot, usually a multi-vector one."""

    slot: str = Field(description="Slot whose vectors give the new scores.")
    candidates: Positive = Field(50, description="Number of candidates to rescore.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Of its score beside the previous stage's, each scaled from 0 to 1; 1 takes its own alone."
    )


class EarlyExit(Section):
    """A reranker stops once blocks of further candidates bring nothing into the best that are wanted."""

    block: Positive = Field(10, description="Candidates scored at a time, best first.")
    patience: Positive = Field(2, description="Blocks in a row without a change of the best, after which it stops.")


class Explore(Section):
    """A reranker reads documents beyond its candidates, those that its own scores so far point to."""

    anchors: str = Field(description="Slot with the same reranker's scores of its anchors.")
    rounds: Annotated[int, Field(ge=2, le=100)] = Field(
        4, description="Times that documents are scored: first candidates, then what their scores point to."
    )
    budget: Annotated[int, Field(ge=2, le=10_000)] = Field(
        100, description="Documents that the reranker scores for a query, in all rounds together."
    )
    ridge: Annotated[float, Field(gt=0)] = Field(
        0.05, description="How firmly the fit to the scores is held back, as a share of the mean squared anchor scores."
    )

    @field_validator("budget")
    @classmethod
    def _a_document_a_round(cls, budget: int, info: ValidationInfo) -> int:
        rounds = info.data.get("rounds", 0)  # missing if it is unusable itself
        if budget < rounds:
            raise ValueError(f"at least {rounds}, a document for each round, or fewer rounds")
        return budget


class RerankStage(Section):
    """A reranker over the best candidates; further keys are its options. Several stages make a cascade."""

    adapter: str = Field(description="Name of a reranker.")
    candidates: Positive = Field(50, description="How many of the previous stage it reads.")
    early_exit: EarlyExit | None = Field(None, description="When to stop before all are scored; all are unless set.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Of its score beside the previous stage's, each scaled from 0 to 1; 1 takes its own alone."
    )
    deadline: Duration | None = Field(
        None,
        description="Time after which no further batch is scored, such as 300ms; unscored candidates come last, in "
        "their previous order. All are scored unless set. An adapter's own option `deadline` goes under `options`.",
    )
    read: Literal["passages", "document"] = Field(
        "passages",
        description="The best passages of a document, where a slot that is searched has some, or its beginning.",
    )
    explore: Explore | None = Field(
        None, description="Lets it find documents that were not candidates; it reads candidates alone unless set."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @property
    def passes_on(self) -> int:
        """The most documents that the stage passes on."""
        return self.explore.budget if self.explore else self.candidates

    @model_validator(mode="after")
    def _explores_by_its_scores_alone(self) -> RerankStage:
        if self.explore is not None and self.early_exit is not None:
            raise ValueError(
                "`explore` and `early_exit` exclude each other: one uses the whole budget, the other stops before"
            )
        if self.explore is not None and self.weight < 1:
            raise ValueError("`weight` needs scores of the previous stage, which `explore` finds documents without")
        return self

    @model_validator(mode="after")
    def _one_way_to_stop(self) -> RerankStage:
        if self.deadline is not None and self.early_exit is not None:
            raise ValueError(
                "`deadline` and `early_exit` exclude each other: one keeps unscored candidates, the other drops them"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys that are not the stage's own are the reranker's options."""
        return gather_options(raw, ("adapter", "candidates", "early_exit", "weight", "deadline", "read", "explore"))


class Diversify(Section):
    """Maximal marginal relevance over the candidates of one slot."""

    slot: str = Field(description="Dense slot whose vectors measure likeness.")
    relevance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="The paper's lambda: 1 is pure relevance, 0 is pure diversity."
    )
    candidates: Positive = Field(100, description="How many candidates it chooses from.")


class SearchParams(Section):
    """Settings of the approximate search."""

    hnsw_ef: Positive | None = Field(None, description="Width of the graph search; None is Qdrant's default.")
    exact: bool = Field(False, description="Scan everything instead of using the graph.")
    oversampling: Annotated[float, Field(ge=1)] | None = Field(None, description="With quantization: factor read.")
    rescore: bool | None = Field(None, description="With quantization: score the candidates with the originals.")


class SearchConfig(Section):
    """The search pipeline, from candidates to hits."""

    retrieve: dict[str, Positive] = Field(
        default_factory=dict, description="Candidates per slot; empty means 100 from each slot that is not a rescorer."
    )
    fuse: Fusion = Field(
        default_factory=DbsfFusion,  # measured against the others in docs/decisions/0048-default-fusion.md
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
    limit: Positive = Field(10, description="Hits a query returns.")
    score_threshold: float | None = Field(None, description="Hits below this score are dropped.")
    passages: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="The most passages of a hit, best first, where a slot that is searched has `passages`."
    )
    highlight: bool = Field(
        False, description="Whether hits say which sentence and which words answer; encodes the sentences of each hit."
    )
    pin: DocumentIds = Field(
        default_factory=list, description="Ids of documents that come first, in this order, whatever the query."
    )
    exclude: DocumentIds = Field(default_factory=list, description="Ids of documents that no search finds.")
    recent: Recent | None = Field(
        None, description="Put the newest documents first, after those of `pin`, whatever the query."
    )
    remember: Annotated[int, Field(ge=0)] = Field(
        1024, description="Vectors of the last queries held in memory, per slot; 0 encodes each query again."
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
        if after.candidates > before.passes_on:
            yield Problem(
                ("search", "rerank", n, "candidates"),
                "a reranker asks for more candidates than the one before it passes on",
                got=str(after.candidates),
                expected=f"at most {before.passes_on}",
            )


def _limit(search: SearchConfig, slots: Collection[str]) -> Iterator[Problem]:
    """The problem of a limit above what the last stage passes on; a single slot has no such limit."""
    last = search.diversify or search.rescore
    retrieved = search.retrieved(slots)
    depth = (
        search.rerank[-1].passes_on
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
