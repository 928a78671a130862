"""`Pipeline`: how a query becomes hits, composed of stages with `+` and `>>`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from qdrant_client import models

from diptych.config.models import SearchConfig
from diptych.config.models import SearchParams as ParamsConfig
from diptych.config.section import MOST_CANDIDATES, require_count
from diptych.config.stages import Dbsf, Diversify, Fusion, Linear, Rerank, Rescore, Rrf
from diptych.errors import SearchError, brief
from diptych.handle.snapshot import View
from diptych.runtime.validation_messages import nearest
from diptych.search.boost import Boost

Stage: TypeAlias = Fusion | Rescore | Boost | Diversify | Rerank


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
        self._derive()
        if self.boost and self.diversify:
            what = "Diversify chooses by similarity alone, so a boost would have no effect"
            raise SearchError(what, where=repr(self), do="leave one of them out")
        names = [branch.slot for branch in self.retrieve]
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
        name, later = self._place(stage)
        if later:
            raise SearchError(
                f"{stage!r} comes too late",
                where=repr(self),
                expected="Retrieve >> fusion >> Rescore >> Boost or Diversify >> Rerank >> ..., each but Rerank once",
            )
        changed: Pipeline = replace(self, **{name: stage})  # type: ignore[arg-type]
        return changed

    def __repr__(self) -> str:
        retrieval = " + ".join(map(repr, self.retrieve))
        return " >> ".join([retrieval, *map(repr, self.stages)])

    def _derive(self) -> None:
        fusions = (self.fuse,) if self.fuse else ()
        narrow = [stage for stage in (self.rescore, self.diversify) if stage is not None]
        slots = [branch.slot for branch in self.retrieve]
        boosts = (self.boost,) if self.boost else ()
        width = min([sum(branch.candidates for branch in self.retrieve), *(stage.candidates for stage in narrow)])
        for stage in self.rerank:
            width = stage.passes_on if stage.explore else min(width, stage.candidates)
        stages = (*fusions, *narrow[:1], *boosts, *narrow[1:], *self.rerank)
        label = self.fuse.label if self.fuse else next(iter(slots), "")
        if narrow:
            label = "mmr" if self.diversify else narrow[0].slot
        if self.boost:
            label = self.boost.label
        derived = {
            "stages": stages,
            "slots": tuple(dict.fromkeys([*slots, *(stage.slot for stage in narrow)])),
            "depth": width if stages else None,
            "label": label,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # as a frozen dataclass sets its own fields

    def _place(self, stage: Stage) -> tuple[str, bool]:
        """The field for the stage, and whether it or a later one is already set."""
        fields = (("fuse", Rrf | Dbsf | Linear), ("rescore", Rescore), ("boost", Boost), ("diversify", Diversify))
        for position, (name, kinds) in enumerate(fields):
            if isinstance(stage, kinds):
                return name, bool(self.rerank) or any(getattr(self, other) for other, _ in fields[position:])
        raise SearchError("not a stage", got=brief(stage), expected="such as Rrf(), Rescore(...) or Rerank(...)")


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
    for stage, label in zip(pipeline.stages, _labels(pipeline), strict=True):
        grown = grown >> stage
        name = label if stage is pipeline.fuse else f"{name} > {label}"
        found[name] = grown
    return found


def _labels(pipeline: Pipeline) -> Iterator[str]:
    if pipeline.fuse:
        yield pipeline.fuse.label
    if pipeline.rescore:
        yield pipeline.rescore.slot
    if pipeline.boost:
        yield pipeline.boost.label
    if pipeline.diversify:
        yield "mmr"
    yield from (stage.label for stage in pipeline.rerank)


def search_params(config: ParamsConfig) -> models.SearchParams | None:
    """Qdrant's search parameters, None when all are the defaults."""
    if config == ParamsConfig():
        return None
    quantization = None
    if config.oversampling is not None or config.rescore is not None:
        quantization = models.QuantizationSearchParams(rescore=config.rescore, oversampling=config.oversampling)
    return models.SearchParams(hnsw_ef=config.hnsw_ef, exact=config.exact or None, quantization=quantization)
