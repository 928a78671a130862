"""The `search` section: the stages of the pipeline, and checks that they fit each other and the slots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from diptych.config.locations import Location
from diptych.config.problems import Problem, shown
from diptych.config.section import Candidates, Positive, Score, Section
from diptych.config.stages import BoostPart, Dbsf, Diversify, Fusion, Recent, Rerank, Rescore
from diptych.runtime.validation_messages import nearest

CANDIDATES = 100  # of a slot whose number is not given: ten times the default limit
DocumentIds = Annotated[list[str], Field(max_length=1000)]


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
        default_factory=Dbsf,  # measured against the others in docs/research/measurements.md
        description="How the slots' candidates become one list.",
    )
    rescore: Rescore | None = Field(None, description="Rescoring by another slot, inside Qdrant.")
    boost: list[BoostPart] = Field(
        default_factory=list,
        max_length=32,
        description="Raises or lowers scores by the documents' metadata, inside Qdrant.",
    )
    diversify: Diversify | None = Field(None, description="Maximal marginal relevance, inside Qdrant.")
    rerank: list[Rerank] = Field(default_factory=list, description="Reranker cascade, first stage first.")
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
    for n, stage in enumerate(search.rerank):
        if not isinstance(stage.adapter, str):
            at = ("search", "rerank", n, "adapter")
            yield Problem(at, "unusable value", shown(stage.adapter, at), "text")
    for n, (before, after) in enumerate(pairwise(search.rerank), 1):
        most = before.passes_on
        if after.candidates > most:
            what = "a reranker asks for more candidates than the one before it passes on"
            at = ("search", "rerank", n, "candidates")
            yield Problem(at, what, got=str(after.candidates), expected=f"at most {most}")


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
