"""`Pipeline`: how a query becomes hits, composed of stages with `+` and `>>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qdrant_client import models

from diptych.config.models import DbsfFusion, LinearFusion, RerankStage, RrfFusion, SearchConfig
from diptych.config.models import SearchParams as ParamsConfig
from diptych.errors import SearchError, brief
from diptych.search.stages import Dbsf, Diversify, EarlyExit, Fusion, Linear, Rerank, Rescore, Rrf, Stage, require_count
from diptych.slots.slot import Slot


@dataclass(frozen=True, slots=True, repr=False)
class Retrieve:
    """The first `candidates` of one slot. `+` retrieves from several, `>>` hands on to a stage.

    Args:
        slot: the slot's name.
        candidates: how many it passes on; as the only stage of a pipeline it gives as many as are asked for.
        params: Qdrant's search parameters for this slot.
    """

    slot: str
    candidates: int = 100
    params: models.SearchParams | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_count("candidates", self.candidates, "Retrieve")
        _require_params(self.params)

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

    Qdrant runs retrieval, fusion, rescoring and diversification in one request; only `Linear` needs the host between.

    Raises:
        SearchError: stages in an order that means nothing, a slot twice, weights of slots that are not retrieved.
    """

    retrieve: tuple[Retrieve, ...]
    fuse: Fusion | None = None
    rescore: Rescore | None = None
    diversify: Diversify | None = None
    rerank: tuple[Rerank, ...] = ()

    def __post_init__(self) -> None:
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
    def from_config(cls, config: SearchConfig, slots: Mapping[str, Slot]) -> Pipeline:
        """The pipeline that a config's `search` section describes over these slots."""
        params = search_params(config.params)
        branches = tuple(Retrieve(slot, n, params=params) for slot, n in config.retrieved(slots).items())
        return cls(
            branches,
            _fusion(config) if len(branches) > 1 else None,
            Rescore(config.rescore.slot, config.rescore.candidates) if config.rescore else None,
            _diversify(config),
            tuple(map(_rerank, config.rerank)),
        )

    @classmethod
    def of_slot(cls, slot: str, config: SearchConfig) -> Pipeline:
        """One slot alone, without later stages, searched as a config's `search.params` say."""
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
                expected="Retrieve >> fusion >> Rescore >> Diversify >> Rerank >> ..., each but Rerank once",
            )
        changed: Pipeline = replace(self, **{name: stage})  # type: ignore[arg-type]
        return changed

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages after retrieval, in order."""
        middle = (self.fuse, self.rescore, self.diversify)
        return (*(stage for stage in middle if stage is not None), *self.rerank)

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots it needs, each once."""
        later = (stage.slot for stage in (self.rescore, self.diversify) if stage is not None)
        return tuple(dict.fromkeys([*(branch.slot for branch in self.retrieve), *later]))

    @property
    def depth(self) -> int | None:
        """The most hits that a query can get; None for a single slot alone, which gives as many as are asked for."""
        if not (self.fuse or self.rescore or self.diversify or self.rerank):
            return None
        widths = [stage.candidates for stage in self.stages if isinstance(stage, Rescore | Diversify | Rerank)]
        return min([sum(branch.candidates for branch in self.retrieve), *widths])

    @property
    def label(self) -> str:
        """The key in `Hit.stages` of the score that Qdrant, or `Linear`, gave last."""
        if self.diversify:
            return "mmr"
        if self.rescore:
            return self.rescore.slot
        return self.fuse.label if self.fuse else self.retrieve[0].slot

    def __repr__(self) -> str:
        retrieval = " + ".join(map(repr, self.retrieve))
        return " >> ".join([retrieval, *map(repr, self.stages)])

    def _place(self, stage: Stage) -> tuple[str, bool]:
        """The field that takes the stage, and whether that or a later one is taken."""
        fields = (("fuse", Rrf | Dbsf | Linear), ("rescore", Rescore), ("diversify", Diversify))
        for position, (name, kinds) in enumerate(fields):
            if isinstance(stage, kinds):
                return name, bool(self.rerank) or any(getattr(self, other) for other, _ in fields[position:])
        raise SearchError("this is no stage", got=brief(stage), expected="such as Rrf(), Rescore(...) or Rerank(...)")


def _fusion(config: SearchConfig) -> Fusion:
    fuse = config.fuse
    if isinstance(fuse, RrfFusion):
        return Rrf(fuse.k, fuse.weights)
    if isinstance(fuse, LinearFusion):
        return Linear(fuse.normalize, fuse.weights)
    assert isinstance(fuse, DbsfFusion)
    return Dbsf()


def _rerank(config: RerankStage) -> Rerank:
    exit = EarlyExit(config.early_exit.block, config.early_exit.patience) if config.early_exit else None
    return Rerank(config.adapter, config.candidates, config.options, early_exit=exit, weight=config.weight)


def _diversify(config: SearchConfig) -> Diversify | None:
    found = config.diversify
    return Diversify(found.slot, found.relevance, found.candidates) if found else None


def search_params(config: ParamsConfig) -> models.SearchParams | None:
    """Qdrant's search parameters, None when all are the defaults."""
    if config == ParamsConfig():
        return None
    quantization = None
    if config.oversampling is not None or config.rescore is not None:
        quantization = models.QuantizationSearchParams(rescore=config.rescore, oversampling=config.oversampling)
    return models.SearchParams(hnsw_ef=config.hnsw_ef, exact=config.exact or None, quantization=quantization)


def _require_params(params: object) -> None:
    if params is not None and not isinstance(params, models.SearchParams):
        raise SearchError(
            "unknown search parameters", got=type(params).__name__, expected="qdrant_client.models.SearchParams"
        )
